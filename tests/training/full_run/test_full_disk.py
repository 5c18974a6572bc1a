"""A disk that fills while a run saves: one line, nothing half-written, and the run can be begun again."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from jointsearch.config.study import StudyConfig
from jointsearch.errors import OutputError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile
from jointsearch.space import SearchSpace
from jointsearch.training.full_run import run
from jointsearch.training.full_run.folder import disk_failures_named, whole_folder
from jointsearch.training.full_run.run import full_run

FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    "error", [SafetensorError(FULL), OSError(errno.ENOSPC, "No space left on device"), RuntimeError(FULL)]
)
def test_nothing_half_written_is_left(
    config: StudyConfig,
    tiny_layout: ModelLayout,
    space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def save(_model: Any, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(run, "save_model", save)
    plan = PlanFile.build(space.plan(space.uniform("nf4", 0)), tiny_layout, config)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        full_run(plan, tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path}/run: ")
    assert "No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.json"]


def test_a_checkpoint_on_a_full_disk(tmp_path: Path) -> None:
    """By torch itself, onto a device that is always full."""
    with pytest.raises(OutputError, match="cannot be written"), disk_failures_named(tmp_path):
        torch.save({"a": torch.zeros(1_000_000)}, "/dev/full")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.ECONNRESET, "reset"), KeyError("x")])
def test_other_failures_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_failures_named(tmp_path):
        raise error
    assert caught.value is error


def test_a_folder_that_was_whole_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "kept").touch()
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "model") as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "kept"]
