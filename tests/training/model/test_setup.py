"""QLoRA's set-up: the same gradients with less memory, and a bank that stays as it was."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from torch import nn

from jointsearch.config.study import StudyConfig
from jointsearch.config.training import TrainingSettings
from jointsearch.errors import UnsupportedError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training import device_check
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.device_check import check_formats
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.base_model import load_base
from jointsearch.training.model.setup import build_optimizer
from jointsearch.training.model.trial_model import TrialModels

QLORA = TrainingSettings(
    optimizer="paged_adamw_8bit", gradient_checkpointing=True, prepare_for_kbit_training=True
)


def test_checkpointing_changes_no_number(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = space.plan(space.uniform("nf4", 8))
    plain = CalibrationRunner(config, tiny_layout).run(plan, Trial(seed=0))
    for settings in (
        TrainingSettings(gradient_checkpointing=True),
        TrainingSettings(gradient_checkpointing=True, prepare_for_kbit_training=True),
    ):
        runner = CalibrationRunner(config.model_copy(update={"training": settings}), tiny_layout)
        measured = runner.run(plan, Trial(seed=0))
        assert measured.metrics["loss"] == pytest.approx(plain.metrics["loss"], rel=1e-5)
        # evaluation happens without it, and the next trial starts as the first
        assert runner.run(plan, Trial(seed=0)).metrics == measured.metrics


def test_kbit_training_computes_in_float32_and_leaves_the_bank_alone(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    base = load_base(config.model, "causal-lm", tiny_layout.dtype, torch.device("cpu"))
    base = base.to(torch.bfloat16)  # as it is on a GPU
    study = config.model_copy(update={"training": QLORA})
    models = TrialModels(study, tiny_layout, torch.device("cpu"), base)
    before = {name: tensor.clone() for name, tensor in base.named_parameters()}
    model = models.assemble(space.plan(space.uniform("16bit", 2)), seed=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, tensor in base.named_parameters():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, before[name])


def test_qloras_set_up_trains_a_trial_and_a_full_run(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace, tmp_path: Path
) -> None:
    study = config.model_copy(update={"training": QLORA})
    plan = space.plan(space.uniform("nf4", 8))
    measured = CalibrationRunner(study, tiny_layout).run(plan, Trial(seed=0))
    untrained = space.plan(space.uniform("nf4", 0))
    start = CalibrationRunner(config, tiny_layout).run(untrained, Trial(seed=0))
    assert measured.metrics["loss"] < start.metrics["loss"] - 0.01
    metrics = full_run(PlanFile.build(plan, tiny_layout, study), tmp_path / "run")
    plain = full_run(PlanFile.build(plan, tiny_layout, config), tmp_path / "plain")
    assert metrics.steps == 6
    # eight-bit states round, which six steps hardly show
    assert metrics.validation["loss"] == pytest.approx(plain.validation["loss"], rel=1e-3)


def test_states_have_eight_bits() -> None:
    parameter = nn.Parameter(torch.randn(128, 64))
    for name in ("adamw_8bit", "paged_adamw_8bit"):
        optimizer = build_optimizer([{"params": [parameter]}], TrainingSettings(optimizer=name), 1e-3, 0.1)
        # a CPU has nowhere to page to, and bitsandbytes would warn
        assert type(optimizer) is bnb.optim.AdamW8bit
        parameter.grad = torch.ones_like(parameter)
        before = parameter.detach().clone()
        optimizer.step()
        assert optimizer.state[parameter]["state1"].dtype == torch.uint8
        # AdamW's first step: lr · (sign of the gradient + weight decay · weight)
        expected = before - 1e-3 * (1 + 0.1 * before)
        assert torch.allclose(parameter.detach(), expected, atol=1e-5)


def test_paged_states_of_32_bits_are_torchs_numbers() -> None:
    torch.manual_seed(0)
    weights = torch.randn(128, 64)
    trained = {}
    for name in ("adamw", "paged_adamw"):
        parameter = trained[name] = nn.Parameter(weights.clone())
        optimizer = build_optimizer([{"params": [parameter]}], TrainingSettings(optimizer=name), 1e-2, 0.1)
        for step in range(20):
            parameter.grad = torch.randn(128, 64, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    assert type(optimizer) is bnb.optim.AdamW  # a CPU has nowhere to page to
    assert optimizer.state[parameter]["state1"].dtype == torch.float32
    assert torch.allclose(trained["paged_adamw"], trained["adamw"], rtol=0, atol=1e-6)


def test_a_device_without_a_format_refuses_the_study(
    config: StudyConfig, tiny_layout: ModelLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantized(*arguments: object) -> torch.Tensor:
        raise NotImplementedError("no kernel")

    cpu = torch.device("cpu")
    check_formats(cpu, config, tiny_layout)
    monkeypatch.setattr(device_check, "quantized", quantized)
    with pytest.raises(UnsupportedError, match=r"4 bits, but on cpu fails with: no kernel; .* doctor"):
        check_formats(cpu, config, tiny_layout)
    sixteen = config.search_space.model_copy(update={"bits": (16,)})
    check_formats(cpu, config.model_copy(update={"search_space": sixteen}), tiny_layout)
