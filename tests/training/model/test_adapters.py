"""Adapters: the plan's ranks in PEFT, nested starts, constant scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.loftq_utils import _low_rank_decomposition
from transformers import AutoModelForCausalLM

from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import ModelSettings, StudyConfig, model_source
from jointsearch.errors import PlanError, StudyFileError, UnsupportedError
from jointsearch.plan.formats import OF_BITS
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.formats.nf4 import dequantize
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace, build_space
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.full_run.evaluation import evaluate_run
from jointsearch.training.full_run.run import full_run
from jointsearch.training.methods.lora import attach_adapters
from jointsearch.training.model.adapters import adapter_starts, initial_rows
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_base

CPU = torch.device("cpu")


def mixed_plan(space: SearchSpace) -> Plan:
    """Ranks 0, 2 and 8 in turn."""
    values = {name: position % len(space.parameters[name]) for position, name in enumerate(space.parameters)}
    return space.plan(values)


def one_adapter(layout: ModelLayout, name: str, choice: ModuleChoice, lora: LoraSettings) -> Plan:
    """A plan that leaves all alone but one module."""
    modules = {spec.name: ModuleChoice(bits=16, rank=0) for spec in layout.modules}
    return Plan(modules=modules | {name: choice}, lora=lora)


def test_starts_are_nested_in_the_rank_and_differ_by_module() -> None:
    assert torch.equal(initial_rows(0, "a.q_proj", 16, 96)[:4], initial_rows(0, "a.q_proj", 4, 96))
    assert not torch.equal(initial_rows(0, "a.q_proj", 4, 96), initial_rows(0, "a.k_proj", 4, 96))
    assert not torch.equal(initial_rows(0, "a.q_proj", 4, 96), initial_rows(1, "a.q_proj", 4, 96))
    rows = initial_rows(0, "a.q_proj", 512, 96)
    assert rows.abs().max() <= 96**-0.5
    # the variance of U(-b, b) is b²/3
    assert rows.var().item() == pytest.approx(1 / 96 / 3, rel=0.03)


def test_every_module_has_its_rank_scale_and_start(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = mixed_plan(space)
    base = load_base(config.model, "causal-lm", "float16", CPU)
    model = attach_adapters(base, plan, tiny_layout, "causal-lm", adapter_starts(base, plan, tiny_layout, 7))
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }
    assert {2, 8} == {layer.r["default"] for layer in layers.values()}
    for name, choice in plan.modules.items():
        if choice.rank == 0:
            assert name not in layers
            continue
        layer = layers[name]
        assert layer.r["default"] == choice.rank
        assert layer.scaling["default"] == 16 / choice.rank
        start = layer.lora_A["default"].weight
        assert torch.equal(start, initial_rows(7, name, choice.rank, layer.in_features))
        assert layer.lora_B["default"].weight.abs().sum() == 0
        assert start.dtype == torch.float32


def test_adapters_can_be_bfloat16(config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace) -> None:
    plan = mixed_plan(space).model_copy(update={"lora": LoraSettings(dtype="bfloat16")})
    base = load_base(config.model, "causal-lm", "float16", CPU)
    model = attach_adapters(base, plan, tiny_layout, "causal-lm", adapter_starts(base, plan, tiny_layout, 0))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.bfloat16}


def test_a_person_without_jointsearch_can_use_the_arguments(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = mixed_plan(space)
    arguments = json.loads(json.dumps(lora_config(plan, tiny_layout)))
    stock = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_source(config.model.id)), LoraConfig(**arguments)
    )
    ranks = {
        name.removeprefix("base_model.model."): layer.r["default"]
        for name, layer in stock.named_modules()
        if isinstance(layer, LoraLayer)
    }
    assert ranks == plan.ranks


def test_a_plan_without_ranks_trains_nothing(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = space.plan(space.uniform("nf4", 0))
    base = load_base(config.model, "causal-lm", "float16", CPU)
    model = attach_adapters(base, plan, tiny_layout, "causal-lm", adapter_starts(base, plan, tiny_layout, 0))
    assert model is base
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_plan_with_a_new_head_alone_trains_the_head(family_folder: Path) -> None:
    settings = ModelSettings(id=str(family_folder / "bert"))
    layout = read_layout(settings, "sequence-classification")
    plan = SearchSpace.build(layout, SpaceSettings(bits=(4,), ranks=(0,))).plan({})
    base = load_base(settings, "sequence-classification", layout.dtype, CPU)
    model = attach_adapters(base, plan, layout, "sequence-classification", {})
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".modules_to_save")[0].split(".")[-1] for name in trained} == {"classifier"}
    assert not any(isinstance(module, LoraLayer) for module in model.modules())


def test_pissa_is_pefts(family_folder: Path) -> None:
    """On float32 weights, where PEFT rounds nothing; the module of GPT-2 is transposed, Llama's is not."""
    for family, name in (("llama", "model.layers.1.mlp.down_proj"), ("gpt2", "transformer.h.0.mlp.c_fc")):
        settings = ModelSettings(id=str(family_folder / family), dtype="float16")
        layout = read_layout(settings, "causal-lm")
        plan = one_adapter(layout, name, ModuleChoice(bits=16, rank=4), LoraSettings(init="pissa"))
        ours = load_base(settings, "causal-lm", "float16", CPU)
        theirs = load_base(settings, "causal-lm", "float16", CPU)
        a, b = adapter_starts(ours, plan, layout, seed=0)[name]
        arguments = lora_config(plan, layout) | {"init_lora_weights": "pissa"}
        layer = get_peft_model(theirs, LoraConfig(**arguments)).base_model.model.get_submodule(name)
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert torch.allclose(b @ a, product, atol=1e-5)
        # what is left is rounded to the 16-bit type, so that saving it loses nothing
        left = ours.get_submodule(name).weight
        assert torch.allclose(left, layer.base_layer.weight, atol=2e-3)
        assert torch.equal(left, left.half().float())


def test_loftq_takes_back_what_quantization_took_away(family_folder: Path) -> None:
    """The best approximation of rank r of the error: by PEFT's own decomposition, and in its norm."""
    settings = ModelSettings(id=str(family_folder / "gpt2"))
    layout = read_layout(settings, "causal-lm")
    name = "transformer.h.1.attn.c_attn"
    plan = one_adapter(layout, name, ModuleChoice(bits=4, rank=8), LoraSettings(init="loftq"))
    bank = QuantizedBank(load_base(settings, "causal-lm", "bfloat16", CPU), plan.quantization, torch.bfloat16)
    model = bank.assemble(plan.formats)
    a, b = adapter_starts(model, plan, layout, seed=0, original=bank)[name]
    weight = bank.get_submodule(name).weight.T
    error = weight - dequantize(model.get_submodule(name).weight)
    expected = _low_rank_decomposition(error, reduced_rank=8)
    assert torch.allclose(plan.lora.scale(8) * b @ a, expected["L"] @ expected["R"], atol=1e-5)
    singular = torch.linalg.svdvals(error)
    left = (error - plan.lora.scale(8) * b @ a).norm()
    assert left.item() == pytest.approx(singular[8:].norm().item(), rel=1e-4)
    assert left < error.norm()


VARIANTS = [
    ({"variant": "rslora"}, "llama", (4, 8, 16)),
    ({"variant": "dora"}, "llama", (8, 16)),
    ({"variant": "dora"}, "gpt2", (4, 8, 16)),
    ({"init": "pissa"}, "gpt2", (16,)),
    ({"variant": "rslora", "init": "pissa"}, "llama", (16,)),
    ({"init": "loftq"}, "llama", (4, 16)),
    ({"variant": "rslora", "init": "loftq"}, "gpt2", (4, 16)),
]


@pytest.mark.parametrize(("lora", "family", "bits"), VARIANTS)
def test_a_variant_trains_and_its_files_are_what_was_trained(
    lora: dict[str, Any],
    family: str,
    bits: tuple[int, ...],
    family_models: Path,
    config: StudyConfig,
    tmp_path: Path,
    tensor_bytes: Callable[[Path], int],
) -> None:
    values = config.model_dump(mode="json")
    values["model"]["id"] = str(family_models / family)
    values["lora"] |= lora
    values["search_space"] |= {"bits": bits, "ranks": [0, 2, 8]}
    study = StudyConfig.model_validate(values)
    layout = read_layout(study.model, "causal-lm")
    space = build_space(study, layout)
    plan = mixed_plan(space)
    runner = CalibrationRunner(study, layout)
    first = runner.run(plan, Trial(seed=0))
    runner.run(space.plan(space.uniform(OF_BITS[bits[0]], 8)), Trial(seed=0))
    assert runner.run(plan, Trial(seed=0)).metrics == first.metrics  # the bank is as it was
    losses = [point.loss for point in first.train_losses]
    assert losses[-1] < losses[0]
    file = PlanFile.build(plan, layout, study)
    metrics = full_run(file, tmp_path / "run")
    assert evaluate_run(tmp_path / "run", "validation")["loss"] == pytest.approx(
        metrics.validation["loss"], rel=1e-5
    )
    saved = sum(tensor_bytes(tmp_path / "run" / part) for part in ("model", "adapter"))
    assert saved == file.cost.model_bytes == first.model_bytes


def test_a_start_that_peft_has_not_for_a_format_is_refused(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    for init, bits in (("pissa", [4, 8]), ("loftq", [8])):
        study = config.model_copy(update={"lora": LoraSettings(init=init)})
        with pytest.raises(StudyFileError, match=rf"lora.init: {init} needs bits among .*can have \{bits}"):
            build_space(study, tiny_layout)
        plan = mixed_plan(space).model_copy(update={"lora": LoraSettings(init=init)})
        with pytest.raises(PlanError, match=f"lora.init: {init} needs bits among"):
            PlanFile.build(plan, tiny_layout, study)


def test_dora_refuses_what_bitsandbytes_dequantizes_wrong_on_cpus(
    family_models: Path, config: StudyConfig
) -> None:
    values = config.model_dump(mode="json")
    values["model"]["id"] = str(family_models / "llama")
    values["lora"]["variant"] = "dora"
    study = StudyConfig.model_validate(values)
    layout = read_layout(study.model, "causal-lm")
    name = "model.layers.0.mlp.down_proj"
    assert layout[name].shape == (64, 176)
    with pytest.raises(UnsupportedError, match=f"multiple of 64, but {name} has 176"):
        CalibrationRunner(study, layout)
    with pytest.raises(UnsupportedError, match=f"multiple of 64, but {name} has 176"):
        plan = one_adapter(layout, name, ModuleChoice(bits=4, rank=2), study.lora)
        full_run(PlanFile.build(plan, layout, study), Path("nowhere"))
    assert not Path("nowhere").exists()
