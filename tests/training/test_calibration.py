"""The calibration run: deterministic, really training, really measuring, and how it fails."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from jointsearch.config.study import StudyConfig, model_source
from jointsearch.errors import TrialFailed, TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.loop import batches
from jointsearch.training.model.architecture import load_config
from jointsearch.training.tasks import build_task


@pytest.fixture(scope="module")
def runner(config: StudyConfig, tiny_layout: ModelLayout) -> CalibrationRunner:
    return CalibrationRunner(config, tiny_layout)


def numbers(measurement: Measurement) -> tuple[object, ...]:
    return measurement.metrics, measurement.train_losses, measurement.validation_losses


def test_same_plan_same_numbers_also_after_other_plans(runner: CalibrationRunner, space: SearchSpace) -> None:
    plan = space.plan(dict.fromkeys(space.parameters, 1))
    first = runner.run(plan, Trial(seed=0))
    for weight_format, rank in (("nf4", 8), ("16bit", 2), ("int8", 0)):
        runner.run(space.plan(space.uniform(weight_format, rank)), Trial(seed=0))
    assert numbers(runner.run(plan, Trial(seed=0))) == numbers(first)
    assert numbers(runner.run(plan, Trial(seed=1))) != numbers(first)


def test_a_fresh_runner_gives_the_same_numbers(
    runner: CalibrationRunner, config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = space.plan(space.uniform("int8", 2))
    fresh = CalibrationRunner(config, tiny_layout)
    assert numbers(fresh.run(plan, Trial(seed=0))) == numbers(runner.run(plan, Trial(seed=0)))


def test_what_is_measured(runner: CalibrationRunner, space: SearchSpace, tiny_layout: ModelLayout) -> None:
    plan = space.plan(space.uniform("nf4", 8))
    result = runner.run(plan, Trial(seed=0))
    assert result.model_bytes == plan_cost(tiny_layout, plan).model_bytes
    assert result.num_tokens == 6 * 4 * 64
    assert [point.step for point in result.validation_losses] == [3, 6]
    assert result.validation_losses[-1].loss == result.metrics["loss"]
    assert result.train_losses[-1].step == 6
    untrained = runner.run(space.plan(space.uniform("nf4", 0)), Trial(seed=0))
    assert untrained.num_tokens == 0
    assert result.metrics["loss"] < untrained.metrics["loss"] - 0.02
    assert result.metrics["perplexity"] == pytest.approx(math.exp(result.metrics["loss"]))
    assert 0 < result.metrics["accuracy"] < 1
    assert set(result.seconds) == {"assemble", "train", "evaluate"}
    assert result.tokens_per_second == pytest.approx(result.num_tokens / result.seconds["train"])
    assert result.peak_memory_bytes > 50e6
    assert result.device.startswith("cpu")
    assert result.versions["torch"] == torch.__version__.split("+")[0] or result.versions["torch"] == (
        torch.__version__
    )


def test_the_loss_of_16_bits_untrained_is_that_of_plain_transformers(
    runner: CalibrationRunner, config: StudyConfig, space: SearchSpace
) -> None:
    measured = runner.run(space.plan(space.uniform("16bit", 0)), Trial(seed=0))
    task = build_task(config, load_config(config.model))
    model = AutoModelForCausalLM.from_pretrained(model_source(config.model.id), dtype=torch.float32).eval()
    batch = task.batch("validation", list(range(8)))
    with torch.no_grad():
        expected = model(**batch).loss.item()
    assert measured.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    text = task.tokenizer.batch_decode(batch["input_ids"][:, 1:])
    num_bytes = sum(len(piece.encode()) for piece in text)
    assert measured.metrics["bits_per_byte"] == pytest.approx(
        expected / math.log(2) * 8 * 63 / num_bytes, rel=1e-5
    )


@pytest.mark.parametrize("measure_at", [(), (0.2,)])
def test_divergence_is_a_failed_trial(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace, measure_at: tuple[float, ...]
) -> None:
    changes = {"learning_rate": 1e30, "max_grad_norm": 1e30, "warmup_steps": 0, "measure_at": measure_at}
    wild = config.calibration.model_copy(update=changes)
    runner = CalibrationRunner(config.model_copy(update={"calibration": wild}), tiny_layout)
    with pytest.raises(TrialFailed, match=r"diverged: the (training|validation) loss is (nan|inf)"):
        runner.run(space.plan(space.uniform("int8", 8)), Trial(seed=0))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_out_of_memory_is_a_failed_trial(
    runner: CalibrationRunner, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(TrialFailed, match="out of memory"):
        runner.run(space.plan(space.uniform("int8", 2)), Trial(seed=0))


def test_a_bug_is_no_failed_trial(
    runner: CalibrationRunner, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        runner.run(space.plan(space.uniform("int8", 2)), Trial(seed=0))


def test_stopping_interrupts_between_steps(runner: CalibrationRunner, space: SearchSpace) -> None:
    asked = iter([False, False, True])
    with pytest.raises(TrialInterrupted, match="step 3 of 6"):
        runner.run(space.plan(space.uniform("int8", 2)), Trial(seed=0, should_stop=lambda: next(asked)))


def test_all_plans_see_the_same_batches(config: StudyConfig) -> None:
    task = build_task(config, load_config(config.model))
    first = [batch["input_ids"] for batch in batches(task, config.calibration, seed=0)]
    again = [batch["input_ids"] for batch in batches(task, config.calibration, seed=0)]
    other = [batch["input_ids"] for batch in batches(task, config.calibration, seed=1)]
    assert len(first) == 6
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert not torch.equal(torch.stack(first), torch.stack(other))
    rows = torch.cat(first)
    assert len(rows.unique(dim=0)) == len(rows) == 24
