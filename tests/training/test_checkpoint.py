"""A trial that is interrupted goes on from its checkpoint, in another process, as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from jointsearch.config import load_study
from jointsearch.runner import Budget
from jointsearch.errors import TrialInterrupted
from jointsearch.space import SearchSpace
from jointsearch.training.architecture import read_layout
from jointsearch.training.calibration import CalibrationRunner

file, every, stop_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = load_study(Path(file))
settings = config.calibration.model_copy(update={"checkpoint_every": every or None})
config = config.model_copy(update={"calibration": settings})
layout = read_layout(config.model, config.task.type)
space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
plan = space.plan({name: len(name) % len(choices) for name, choices in space.parameters.items()})
asked = 0

def should_stop():
    global asked
    asked += 1
    return asked == stop_at

try:
    measured = CalibrationRunner(config, layout).run(plan, Budget(3, should_stop))
except TrialInterrupted as error:
    print(json.dumps({"asked": asked, "interrupted": str(error)}))
else:
    print(json.dumps({"asked": asked, "measured": measured.model_dump(mode="json")}))
"""

SAME = (
    "metrics",
    "train_losses",
    "validation_losses",
    "num_tokens",
    "stability",
    "examples",
    "model_bytes",
    "trainable_parameters",
)


def run(study_file: Path, home: Path, every: int, stop_at: int = 0) -> dict[str, Any]:
    """A calibration run in a process of its own that is to stop when it has asked so often."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(study_file), str(every), str(stop_at)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def checkpoints(home: Path) -> list[Path]:
    return sorted((home / "jointsearch").rglob("*.*"))


@pytest.fixture(scope="module")
def uninterrupted(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(study_file, tmp_path_factory.mktemp("home"), every=0)


def test_a_resumed_run_measures_the_same(
    study_file: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """Also the validation loss half way, and losses of steps that the second process has not done."""
    assert uninterrupted["asked"] == 6
    first = run(study_file, tmp_path, every=2, stop_at=6)  # steps 1 to 5 are done, 4 are kept
    assert first == {"asked": 6, "interrupted": "stopped at step 6 of 6"}
    assert [path.name.endswith("-3.pt") for path in checkpoints(tmp_path)] == [True]
    second = run(study_file, tmp_path, every=2)
    assert second["asked"] == 2  # steps 5 and 6
    whole, resumed = uninterrupted["measured"], second["measured"]
    assert {key: resumed[key] for key in SAME} == {key: whole[key] for key in SAME}
    assert resumed["seconds"].keys() == whole["seconds"].keys()
    assert checkpoints(tmp_path) == []


def test_without_checkpoints_it_starts_anew(
    study_file: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    assert "interrupted" in run(study_file, tmp_path, every=0, stop_at=6)
    assert checkpoints(tmp_path) == []
    again = run(study_file, tmp_path, every=0)
    assert again["asked"] == 6
    assert {key: again["measured"][key] for key in SAME} == {
        key: uninterrupted["measured"][key] for key in SAME
    }
