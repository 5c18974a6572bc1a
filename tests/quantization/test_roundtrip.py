"""Bytes and logits of mixed plans: in the bank, quantized on load, saved, and loaded again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import ModelSettings
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.plugin import JointSearchConfig, save_model
from jointsearch.space import SearchSpace
from jointsearch.training.methods.lora import attach_adapters
from jointsearch.training.model.adapters import adapter_starts
from jointsearch.training.model.architecture import model_class, read_layout
from jointsearch.training.model.base_model import load_base, load_quantized

CPU = torch.device("cpu")


def random_plan(layout: ModelLayout, double_quant: bool, seed: int) -> Plan:
    """Every module draws its own bits of 4, 8, 16 and its own rank of 0, 1, 4, 8."""
    space = SearchSpace.build(
        layout,
        SpaceSettings(group_by="module", ranks=(0, 1, 4, 8)),
        QuantizationSettings(double_quant=double_quant),
    )
    return space.plan(space.sample(random.Random(seed)))


def inputs_for(task: str) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 256, (2, 24), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if task == "seq2seq-lm" else {})


def config_of(plan: Plan, layout: ModelLayout) -> JointSearchConfig:
    settings = plan.quantization
    return JointSearchConfig(plan.formats, layout.dtype, settings.double_quant, settings.int8_threshold)


def stirred(model: Any) -> Any:
    """The model with adapters that do something: PEFT starts them at zero."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def with_adapters(model: Any, plan: Plan, layout: ModelLayout, task: str) -> Any:
    return attach_adapters(model, plan, layout, task, adapter_starts(model, plan, layout, seed=0))


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_bytes_and_logits_survive_saving(
    family: tuple[ModelSettings, str],
    dtype: str,
    double_quant: bool,
    tmp_path: Path,
    tensor_bytes: Callable[[Path], int],
) -> None:
    settings, task = family
    settings = settings.model_copy(update={"dtype": dtype})
    layout = read_layout(settings, task)
    plan = random_plan(layout, double_quant, seed=3)
    assert {4, 8, 16} == {choice.bits for choice in plan.modules.values()}
    assert {0, 8} < {choice.rank for choice in plan.modules.values()}
    inputs = inputs_for(task)

    base = load_base(settings, task, layout.dtype, CPU)
    bank = QuantizedBank(base, plan.quantization, getattr(torch, dtype))
    assembled = stirred(with_adapters(bank.assemble(plan.formats), plan, layout, task))
    on_load = load_quantized(settings, task, config_of(plan, layout), CPU)
    save_model(on_load, tmp_path / "model")
    trained = stirred(with_adapters(on_load, plan, layout, task))
    trained.save_pretrained(tmp_path / "adapter")
    loaded = model_class(task).from_pretrained(tmp_path / "model")
    loaded = PeftModel.from_pretrained(loaded, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = trained(**inputs).logits
        from_bank = assembled(**inputs).logits
        from_disk = loaded(**inputs).logits
    assert torch.equal(from_bank, expected)
    assert torch.equal(from_disk, expected)

    cost = plan_cost(layout, plan)
    assert tensor_bytes(tmp_path / "model") == cost.base_bytes
    assert tensor_bytes(tmp_path / "adapter") == cost.adapter_bytes
    assert tensor_bytes(tmp_path / "model") + tensor_bytes(tmp_path / "adapter") == cost.model_bytes
    counted = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    assert counted == cost.trainable_parameters


def test_what_is_not_quantized_is_saved_in_16_bits(family: tuple[ModelSettings, str], tmp_path: Path) -> None:
    settings, task = family
    layout = read_layout(settings, task)
    plan = random_plan(layout, True, seed=3)
    save_model(load_quantized(settings, task, config_of(plan, layout), CPU), tmp_path)
    statistics = ("absmax", "quant_map", "quant_state", "SCB", "weight_format")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = file.keys()
        quantized = {f"{name}.weight" for name in plan.bits}
        plain = [name for name in names if name not in quantized and not name.endswith(statistics)]
        plain = [name for name in plain if not any(part in name for part in ("absmax", "quant_"))]
        assert plain
        assert {file.get_tensor(name).dtype for name in plain} == {torch.bfloat16}
    assert '"dtype": "bfloat16"' in (tmp_path / "config.json").read_text()


def test_the_values_of_16_bits_are_those_of_the_16_bit_type(family: tuple[ModelSettings, str]) -> None:
    settings, task = family
    stored = model_class(task).from_pretrained(settings.id, dtype=torch.float32).state_dict()
    base = load_base(settings, task, "bfloat16", CPU).state_dict()
    for name, tensor in base.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].bfloat16().float())
