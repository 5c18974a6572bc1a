"""Experts' weights in formats: as the model's own code and stock PEFT see them, saved, and weighed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    JetMoeConfig,
    PretrainedConfig,
)

from families import zoo
from jointsearch.errors import UnsupportedError
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.experts import QuantizedExperts, weight_matrix
from jointsearch.quantization.formats.base import round_to
from jointsearch.quantization.in_place import quantize_in_place
from jointsearch.quantization.plugin import JointSearchConfig, save_model
from jointsearch.training.methods.base import Adaptation, method_of
from jointsearch.training.model.architecture import layout_of
from jointsearch.training.probes.gradients import GradientProbe, movements
from jointsearch.training.quiet import ranks_of_parameters

FUSED = ("mixtral", "qwen3-moe", "gpt-oss", "llama4", "deepseek-v3", "jamba")
"""GPT-OSS keeps the transpose, and biases of experts."""
CONFIGS: dict[str, PretrainedConfig] = {name: zoo.FAMILIES[name].config() for name in FUSED} | {
    # its parameters are called weight
    "jetmoe": JetMoeConfig(
        vocab_size=96,
        hidden_size=64,
        num_hidden_layers=2,
        num_key_value_heads=2,
        kv_channels=16,
        intermediate_size=64,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
}
FAMILIES = pytest.mark.parametrize("family", CONFIGS)
IDS = torch.arange(24)[None] * 7 % 96


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[family])).eval().requires_grad_(False)
    round_to(model, torch.bfloat16)
    return model


def formats_of(model: Any) -> dict[str, str]:
    """The first stack at 4 bits, the second at 8, and so on; one module beside them; the last as it is."""
    experts = [spec.name for spec in layout_of(model, "bfloat16").modules if spec.kind == "experts"]
    beside = next(s.name for s in layout_of(model, "bfloat16").modules if s.kind == "linear")
    return {name: ("nf4", "int8")[i % 2] for i, name in enumerate(experts[:-1])} | {beside: "nf4"}


def dequantized(model: Any, formats: dict[str, str]) -> Any:
    """The model at 16 bits whose weights are what quantized ones stand for, by a second way."""
    quantized = QuantizedBank(model, QuantizationSettings(), torch.bfloat16).assemble(formats)
    plain = copy.deepcopy(model)
    for name in formats:
        matrix = weight_matrix(quantized, name)
        path, _, leaf = name.rpartition(".")
        module = plain.get_submodule(path)
        if not isinstance(getattr(module, leaf), torch.nn.Parameter):
            getattr(module, leaf).weight.data = matrix
            continue
        stack = getattr(module, leaf)
        rows = matrix.view(len(stack), -1, matrix.shape[1])
        stack.data = rows.transpose(1, 2).contiguous() if getattr(module, "is_transposed", False) else rows
    return plain


def plan_of(model: Any, ranks: int = 3, **lora: Any) -> tuple[Plan, Any]:
    layout = layout_of(model, "bfloat16")
    formats = formats_of(model)
    return Plan(
        modules={
            spec.name: ModuleChoice(
                format=formats.get(spec.name, "16bit"),
                rank=ranks + (i % 2) if spec.kind == "experts" and spec.adaptable else 0,
            )
            for i, spec in enumerate(layout.modules)
        },
        lora=LoraSettings(**lora),
    ), layout


@FAMILIES
def test_all_ways_to_quantize_give_the_logits_of_the_dequantized_model(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    formats = formats_of(model)
    model.save_pretrained(tmp_path / "base")
    expected = dequantized(model, formats)(IDS).logits
    assert not torch.equal(expected, model(IDS).logits)

    bank = QuantizedBank(model, QuantizationSettings(), torch.bfloat16)
    in_place = quantize_in_place(copy.deepcopy(model), JointSearchConfig(formats))
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=JointSearchConfig(formats), device_map={"": "cpu"}
    )
    save_model(loaded, tmp_path / "mixed")
    again, found = AutoModelForCausalLM.from_pretrained(tmp_path / "mixed", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    for quantized in (bank.assemble(formats), in_place, loaded, again, copy.deepcopy(again)):
        assert torch.equal(quantized.eval()(IDS).logits, expected)
        # PEFT nests adapters by the order of the parameters
        assert [name for name, _ in quantized.named_parameters() if ".experts." in name] == [
            name for name, _ in model.named_parameters() if ".experts." in name
        ]
    assert torch.equal(model(IDS).logits, AutoModelForCausalLM.from_pretrained(tmp_path / "base")(IDS).logits)


@FAMILIES
def test_bytes_are_those_of_what_is_saved(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    plan, layout = plan_of(model)
    cost = plan_cost(layout, plan)
    quantized = quantize_in_place(model, JointSearchConfig(plan.formats))
    save_model(quantized, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    texts = sum(t.numel() for name, t in saved.items() if "quant_state" in name)
    assert sum(t.numel() * t.element_size() for t in saved.values()) - texts == cost.base_bytes
    adapted = attached(quantized, plan, layout)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert sum(4 * p.numel() for p in trained) == cost.adapter_bytes > 0


def attached(model: Any, plan: Plan, layout: Any) -> Any:
    method, wanted = method_of(plan.lora), Adaptation(plan, layout, "causal-lm", 4, 0)
    return method.attach(model, wanted, method.starts(model, wanted))


@FAMILIES
def test_stock_peft_trains_them_as_it_trains_dequantized_ones(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    plan, layout = plan_of(model)
    plain = attached(dequantized(model, plan.formats), plan, layout)
    assert list(plan.ranks)  # experts alone
    adapted = attached(quantize_in_place(model, JointSearchConfig(plan.formats)), plan, layout)
    losses = []
    for made in (plain, adapted):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-2)
        made.train()
        for _ in range(3):
            loss = made(input_ids=IDS, labels=IDS).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(made.eval()(input_ids=IDS, labels=IDS).loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[1] < model_loss(family) - 0.01

    adapted.save_pretrained(tmp_path)
    fresh = quantize_in_place(model_of(family), JointSearchConfig(plan.formats))
    with ranks_of_parameters():
        loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert loaded(input_ids=IDS, labels=IDS).loss.item() == losses[1]


def model_loss(family: str) -> float:
    return float(model_of(family)(input_ids=IDS, labels=IDS).loss)


def test_ranks_nest_and_experts_start_apart() -> None:
    model = model_of("mixtral")
    few, layout = plan_of(model, 2)
    many, _ = plan_of(model, 5)
    wanted = [Adaptation(plan, layout, "causal-lm", 4, 7) for plan in (few, many)]
    starts = [method_of(few.lora).starts(model, each) for each in wanted]
    for name, rank in few.ranks.items():
        num_experts = layout[name].num_experts
        a, longer = starts[0][name][0], starts[1][name][0]
        a, longer = a.view(num_experts, rank, -1), longer.view(num_experts, many.ranks[name], -1)
        assert torch.equal(a, longer[:, :rank])
        assert not torch.equal(a[0], a[1])


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"variant": "dora"}, "dora is not for experts"),
        ({"dropout": 0.1}, "no dropout"),
        ({"init": "loftq"}, "start at nothing"),
    ],
)
def test_what_peft_has_not_for_experts_is_said(lora: dict[str, Any], reason: str) -> None:
    assert LoraSettings().why_no_experts is None
    layout = layout_of(model_of("mixtral"), "bfloat16")
    why = LoraSettings(**lora).why_no_experts
    assert why is not None and reason in why
    kept = layout.kept_from("experts", why)
    assert not any(spec.adaptable for spec in kept.modules if spec.kind == "experts")
    assert [spec for spec in kept.modules if spec.kind != "experts"] == [
        spec for spec in layout.modules if spec.kind != "experts"
    ]
    assert any(note.startswith("without an adapter: model.layers.*.mlp.experts") for note in kept.notes)


def test_merging_into_quantized_experts_is_refused() -> None:
    model = model_of("mixtral")
    plan, layout = plan_of(model)
    adapted = attached(quantize_in_place(model, JointSearchConfig(plan.formats)), plan, layout)
    with pytest.raises(UnsupportedError, match="cannot be changed in place"):
        adapted.merge_adapter()


def test_they_move_and_keep_their_values() -> None:
    model = quantize_in_place(model_of("mixtral"), JointSearchConfig(formats_of(model_of("mixtral"))))
    before = [p.dequantized() for p in model.parameters() if isinstance(p, QuantizedExperts)]
    model.to(torch.bfloat16)
    stacks = [p for p in model.parameters() if isinstance(p, QuantizedExperts)]
    assert len(stacks) == len(before) == 3
    for stack, values in zip(stacks, before, strict=True):
        assert isinstance(stack, torch.nn.Parameter) and not stack.requires_grad
        assert stack.dtype == torch.bfloat16
        assert torch.equal(stack[1], values[1].bfloat16())
    assert model(IDS).logits.isfinite().all()


def test_the_gradient_of_experts_is_sketched() -> None:
    """The mean over many starts is the squared gradient of the weight itself, by autograd."""
    model = model_of("mixtral")
    plan, layout = plan_of(model, 4)
    plain = Plan(
        modules={name: ModuleChoice(format="16bit", rank=c.rank) for name, c in plan.modules.items()},
        lora=plan.lora,
    )
    names = list(plain.ranks)
    reference = copy.deepcopy(model)
    weights = [reference.get_parameter(name).requires_grad_(True) for name in names]
    reference(input_ids=IDS, labels=IDS).loss.backward()
    exact = [w.grad.square().mean().item() for w in weights]

    sketches = []
    for seed in range(24):
        wanted = Adaptation(plain, layout, "causal-lm", 1, seed)
        method = method_of(plain.lora)
        adapted = method.attach(copy.deepcopy(model), wanted, method.starts(model, wanted)).train()
        probe = GradientProbe(layout)
        with probe.watching(adapted):
            adapted(input_ids=IDS, labels=IDS).loss.backward()
        sketches.append([probe.fishers[name] for name in names])
        assert movements(adapted, dict.fromkeys(names, 1.0)) == dict.fromkeys(names, 0.0)  # B = 0
    mean = torch.tensor(sketches).mean(0)
    assert mean.tolist() == pytest.approx(exact, rel=0.2)


def test_the_exported_arguments_give_peft_the_plans_ranks() -> None:
    model = model_of("mixtral")
    plan, layout = plan_of(model)
    with ranks_of_parameters():
        made = get_peft_model(model, LoraConfig(**lora_config(plan, layout)))
    rows = {name: len(value) for name, value in made.named_parameters() if ".lora_A." in name}
    inner = {name for name in plan.ranks if name.endswith("gate_up_proj")}
    assert sorted(rows.values()) == sorted(4 * rank for rank in plan.ranks.values())
    assert sum(rows[name] for name in rows if "base_layer" in name) == 4 * sum(plan.ranks[n] for n in inner)
