"""Sensitivities against other ways to compute them: by hand, and by autograd on the dense weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.methods.lora import attach_adapters
from jointsearch.training.model.adapters import adapter_starts
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_base
from jointsearch.training.probes.gradients import GradientProbe, movements
from jointsearch.training.probes.sensitivity import (
    output_errors,
    weight_errors,
    weight_norms,
)

CPU = torch.device("cpu")
MODULE = "model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def runner(config: StudyConfig, tiny_layout: ModelLayout) -> CalibrationRunner:
    return CalibrationRunner(config, tiny_layout)


@pytest.fixture(scope="module")
def measured(runner: CalibrationRunner, tiny_layout: ModelLayout) -> Sensitivities:
    return runner.sensitivities(tiny_layout, rank=2)


def int8_by_hand(weight: torch.Tensor) -> torch.Tensor:
    """LLM.int8(): rows are scaled to 127 by their largest magnitude and rounded."""
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scales).round() * scales


def test_weight_errors(measured: Sensitivities, runner: CalibrationRunner) -> None:
    for name, found in measured.modules.items():
        weight = runner.models.bank.get_submodule(name).weight.data.float()
        assert found.weight_norm == pytest.approx(weight.norm().item(), rel=1e-6)
        error = ((weight - int8_by_hand(weight)).norm() / weight.norm()).item()
        assert found.weight_error["int8"] == pytest.approx(error, rel=1e-3)
        assert 0.08 < found.weight_error["nf4"] < 0.11  # of normal weights: about 9 %
        assert found.squared_error("int8") == pytest.approx((error * found.weight_norm) ** 2, rel=1e-2)
        assert found.squared_error("16bit") == 0.0


def test_output_errors_are_those_of_the_module_s_own_inputs(
    config: StudyConfig, tiny_layout: ModelLayout
) -> None:
    base = load_base(config.model, "causal-lm", "float16", CPU)
    bank = QuantizedBank(base, config.quantization, torch.float16)
    tokens = torch.randint(5, 500, (2, 12), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": tokens}, {"input_ids": tokens.flip(0)}]
    found = output_errors(bank, tiny_layout, ["nf4", "int8"], batches)
    seen: list[torch.Tensor] = []
    hook = base.get_submodule(MODULE).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        base(input_ids=tokens)
    hook.remove()
    weight = base.get_submodule(MODULE).weight.data
    right, wrong = seen[0] @ weight.T, seen[0] @ int8_by_hand(weight).T
    # the second batch is the first in another order: its errors are the same
    assert found[MODULE]["int8"] == pytest.approx(((right - wrong).norm() / right.norm()).item(), rel=1e-3)
    assert found.keys() == {spec.name for spec in tiny_layout.modules if spec.quantizable}
    rows = base.get_submodule("model.embed_tokens").weight.data
    looked_up, rounded = rows[tokens], int8_by_hand(rows)[tokens]
    error = ((looked_up - rounded).norm() / looked_up.norm()).item()
    assert found["model.embed_tokens"]["int8"] == pytest.approx(error, rel=1e-3)


def test_gradients_are_those_of_autograd(family: tuple[ModelSettings, str]) -> None:
    """One step on a model that is not quantized, whose weights autograd can differentiate."""
    settings, task = family
    layout = read_layout(settings, task)
    base = load_base(settings, task, layout.dtype, CPU)
    plan = STRATEGIES["lora"].plan(layout, StrategySettings(rank=2, lora=LoraSettings()))
    model = attach_adapters(base, plan, layout, task, adapter_starts(base, plan, layout, 0))
    tokens = torch.randint(5, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    labels = tokens[:, 0] % 2 if task == "sequence-classification" else tokens
    model.train()
    for module in model.modules():  # what is dropped of a batch is not what is dropped of one example
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "attn_dropout", "dropout_rate"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    names = [spec.name for spec in layout.modules if not spec.trained and not spec.tied]
    weights = {name: weight_of(model, name) for name in names}
    for weight in weights.values():
        weight.requires_grad_(True)
    model(input_ids=tokens, labels=labels).loss.backward()
    names = [name for name, weight in weights.items() if weight.grad is not None]
    adapters = {
        name: [layer.lora_A.default.weight.grad.norm().item(), layer.lora_B.default.weight.grad.norm().item()]
        for name, layer in ((n, model.get_submodule(f"base_model.model.{n}")) for n in plan.ranks)
    }
    expected = dict.fromkeys(names, 0.0)  # of every example, by itself
    for position in range(len(tokens)):
        model.zero_grad()
        one = slice(position, position + 1)
        model(input_ids=tokens[one], labels=labels[one]).loss.backward()
        for name in names:
            gradient = weights[name].grad
            assert gradient is not None
            expected[name] += (gradient**2).mean().item() / len(tokens)
    for weight in weights.values():
        weight.requires_grad_(False)
    model.zero_grad()
    probe = GradientProbe(layout)
    with probe.watching(model):
        model(input_ids=tokens, labels=labels).loss.backward()
    fishers = probe.fishers
    assert fishers.keys() >= set(plan.ranks)
    for name, square in expected.items():
        if "shared" not in name:  # T5's embedding is used twice, and counted as two
            assert fishers[name] == pytest.approx(square, rel=1e-3), name
    for name, (a, b) in adapters.items():
        assert probe.gradient_norms[name] == pytest.approx((a * a + b * b) ** 0.5, rel=1e-3)


def weight_of(model: nn.Module, name: str) -> nn.Parameter:
    module = model.get_submodule(f"base_model.model.{name}")
    weight = getattr(module, "base_layer", module).weight
    assert isinstance(weight, nn.Parameter)
    return weight


def test_a_whole_probe(measured: Sensitivities, tiny_layout: ModelLayout, runner: CalibrationRunner) -> None:
    assert measured.modules.keys() == {spec.name for spec in tiny_layout.modules}
    assert (measured.probe_steps, measured.probe_rank, measured.seed) == (6, 2, 0)
    for spec in tiny_layout.modules:
        found = measured.modules[spec.name]
        assert found.fisher > 0
        assert (found.gradient_norm > 0) is spec.adaptable
        assert (found.movement > 0) is spec.adaptable
    # plain JSON and back, as the study keeps it
    assert Sensitivities.model_validate(measured.model_dump(mode="json")) == measured
    assert runner.sensitivities(tiny_layout, rank=2) == measured


def test_movement_is_what_the_adapter_adds(config: StudyConfig, tiny_layout: ModelLayout) -> None:
    base = load_base(config.model, "causal-lm", "float16", CPU)
    bank = QuantizedBank(base, config.quantization, torch.float16)
    plan = STRATEGIES["lora"].plan(tiny_layout, StrategySettings(rank=2))
    starts = adapter_starts(base, plan, tiny_layout, 0)
    a, _ = starts[MODULE]
    starts[MODULE] = a, torch.ones(tiny_layout[MODULE].shape[0], 2)
    model = attach_adapters(bank.assemble({}), plan, tiny_layout, "causal-lm", starts)
    moved = movements(model, weight_norms(bank, tiny_layout))
    layer = model.get_submodule(f"base_model.model.{MODULE}")
    added = layer.get_delta_weight("default").norm() / layer.base_layer.weight.norm()
    assert moved[MODULE] == pytest.approx(added.item(), rel=1e-4)
    assert sum(moved.values()) == moved[MODULE]  # the others have B = 0
    assert weight_errors(bank, tiny_layout, ["int8"]).keys() == moved.keys() | {"model.embed_tokens"}
