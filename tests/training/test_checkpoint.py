"""A trial that is interrupted goes on from its checkpoint, in another process, as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.errors import TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner

RESUME = """
import json, sys
from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.training.calibration import CalibrationRunner

config, layout, plan = (
    kind.model_validate(value)
    for kind, value in zip((StudyConfig, ModelLayout, Plan), json.load(sys.stdin), strict=True)
)
asked = []
measured = CalibrationRunner(config, layout).run(plan, Trial(3, lambda: bool(asked.append(1))))
print(len(asked), measured.model_dump_json())
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("jointsearch.training.checkpoint.HF_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def plan(space: SearchSpace) -> Plan:
    """With every bits and rank somewhere."""
    values = {name: position % len(space.parameters[name]) for position, name in enumerate(space.parameters)}
    return space.plan(values)


@pytest.fixture(scope="module")
def uninterrupted(config: StudyConfig, tiny_layout: ModelLayout, plan: Plan) -> Measurement:
    return CalibrationRunner(config, tiny_layout).run(plan, Trial(3))


def keeping(config: StudyConfig, every: int) -> StudyConfig:
    settings = config.calibration.model_copy(update={"checkpoint_every": every})
    return config.model_copy(update={"calibration": settings})


def interrupt(runner: CalibrationRunner, plan: Plan, step: int) -> None:
    asked = iter(range(1, 100))
    with pytest.raises(TrialInterrupted, match=f"step {step} of 6"):
        runner.run(plan, Trial(3, should_stop=lambda: next(asked) == step))


def count_steps(runner: CalibrationRunner, plan: Plan, seed: int) -> tuple[Measurement, int]:
    """A run to its end, and how often it asked whether to stop: once before every step."""
    asked: list[int] = []
    return runner.run(plan, Trial(seed, should_stop=lambda: bool(asked.append(1)))), len(asked)


def checkpoints(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*") if path.is_file()]


def numbers(measurement: Measurement) -> dict[str, object]:
    """What does not depend on the clock, the process and its memory."""
    clock = {"seconds", "tokens_per_second", "seconds_per_epoch", "inference_rate", "peak_memory_bytes"}
    return measurement.model_dump(exclude=clock)


def test_another_process_goes_on_and_measures_the_same(
    config: StudyConfig, tiny_layout: ModelLayout, plan: Plan, uninterrupted: Measurement, home: Path
) -> None:
    """Also the validation loss half way, and the losses of steps that the second process has not done."""
    kept = keeping(config, 2)
    interrupt(CalibrationRunner(kept, tiny_layout), plan, 6)  # steps 1 to 5 are done, 4 are kept
    assert checkpoints(home) == [f"{plan.digest}-3-6.pt"]
    done = subprocess.run(
        [sys.executable, "-c", RESUME],
        input=json.dumps([part.model_dump(mode="json") for part in (kept, tiny_layout, plan)]),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    asked, _, measured = done.stdout.partition(" ")
    assert asked == "2"  # steps 5 and 6
    resumed = Measurement.model_validate_json(measured)
    assert numbers(resumed) == numbers(uninterrupted)
    assert resumed.num_tokens == 6 * 4 * 64
    assert resumed.seconds.keys() == uninterrupted.seconds.keys()
    assert checkpoints(home) == []


def test_without_checkpoints_it_starts_anew(
    config: StudyConfig, tiny_layout: ModelLayout, plan: Plan, uninterrupted: Measurement, home: Path
) -> None:
    runner = CalibrationRunner(config, tiny_layout)
    interrupt(runner, plan, 6)
    assert checkpoints(home) == []
    again, num_steps = count_steps(runner, plan, 3)
    assert num_steps == 6
    assert numbers(again) == numbers(uninterrupted)


def test_a_checkpoint_belongs_to_one_plan_and_seed(
    config: StudyConfig, tiny_layout: ModelLayout, plan: Plan, space: SearchSpace, home: Path
) -> None:
    runner = CalibrationRunner(keeping(config, 1), tiny_layout)
    interrupt(runner, plan, 3)
    assert count_steps(runner, plan, 4)[1] == 6
    assert count_steps(runner, space.plan(space.uniform("int8", 2)), 3)[1] == 6
    assert checkpoints(home) == [f"{plan.digest}-3-6.pt"]
