"""SQLite where it cannot write: a full disk, a limit on the file's size, a database that is read-only."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.disks import fill
from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]
Launch = Callable[..., subprocess.Popen[str]]
WaitFor = Callable[..., None]


def check_finished(study: StoredStudy, log: str) -> None:
    """All trials are there, and none was measured twice."""
    records = study.records()
    assert len(records.complete) == len(records.trials) == 12, log
    ran = [line for line in log.splitlines() if line.startswith("ran ")]
    assert len(ran) == len(set(ran)) == sum(trial.copy_of is None for trial in records.complete)


def test_a_full_disk_is_waited_for(
    small_disk: Path,
    configure: Configure,
    layout: ModelLayout,
    launch: Launch,
    wait_for: WaitFor,
    gate: Any,
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{small_disk}/studies.db"
    storage = open_storage(url, create=True)
    study = create_study(storage, configure(search={"trials": 12}), layout)
    worker = launch("work", url, study.name, "--gate", gate.folder)
    gate.let(2)
    wait_for(lambda: len(study.records().complete) == 2 and study.records().running)
    fill(small_disk / "ballast")
    gate.open()
    wait_for(lambda: "trying again" in (tmp_path / "log").read_text())
    assert "database or disk is full" in (tmp_path / "log").read_text()
    num_written = len(study.records().complete)
    assert worker.poll() is None
    assert num_written < 12
    (small_disk / "ballast").unlink()
    assert worker.wait() == 0, (tmp_path / "log").read_text()
    check_finished(study, (tmp_path / "log").read_text())
    storage.engine.dispose()


def test_a_limit_on_the_size_of_files_is_waited_for(
    create: Create, url: str, launch: Launch, wait_for: WaitFor, gate: Any, tmp_path: Path
) -> None:
    """What every user can try: the operating system refuses to let the database grow."""
    study = create(search={"trials": 12})
    worker = launch("work", url, study.name, "--gate", gate.folder)
    gate.let(2)
    wait_for(lambda: len(study.records().complete) == 2 and study.records().running)
    now = (tmp_path / "studies.db-wal").stat().st_size
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (now, resource.RLIM_INFINITY))
    gate.open()
    wait_for(lambda: "disk I/O error); trying again" in (tmp_path / "log").read_text())
    assert worker.poll() is None
    assert len(study.records().complete) < 12
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert worker.wait() == 0, (tmp_path / "log").read_text()
    check_finished(study, (tmp_path / "log").read_text())


@pytest.mark.parametrize(
    "words", [["worker", "small"], ["study", "pause", "small"], ["select", "small", "--trial", "0"]]
)
def test_a_read_only_database_is_one_line(
    create: Create,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Any],
    words: list[str],
) -> None:
    class Ready(FakeRunner):
        notes = ()

    study = create()
    Worker(study, FakeRunner(study.layout), max_trials=1).run()
    monkeypatch.setattr("jointsearch.starting.build_runner", lambda config, layout, tell: Ready(layout))
    url = f"sqlite:///file:{tmp_path}/studies.db?mode=ro&uri=true"
    assert command(*words, "--storage", url, status=2).stderr == (
        "Error: the storage must be there, readable and writable, but attempt to write a readonly database\n"
    )
    assert len(study.records().complete) == 1


def test_a_read_only_database_can_be_looked_at(
    create: Create, tmp_path: Path, command: Callable[..., Any]
) -> None:
    create()
    url = f"sqlite:///file:{tmp_path}/studies.db?mode=ro&uri=true"
    assert "waiting" in command("study", "status", "small", "--storage", url).stdout
