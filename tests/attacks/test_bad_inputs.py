"""Bad inputs: one line of at most 500 characters, status 2, nothing half-written, and none hangs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from attacks.bad import command_lines, plans, storages, study_files
from attacks.bad.case import Case
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile, plan_text
from jointsearch.space import build_space
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parents[1] / "fixtures"
LAYOUT = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())


def good_plan() -> PlanFile:
    config = read_study(FIXTURES / "study.yaml")
    return PlanFile.build(next(build_space(config, LAYOUT).baselines()).plan, LAYOUT, config)


def all_cases() -> Iterator[Case]:
    yield from study_files.by_rule()
    yield from study_files.by_hand()
    yield from plans.by_rule(good_plan().model_dump(mode="json"))
    yield from plans.by_hand()
    yield from command_lines.by_rule()
    yield from command_lines.by_hand()
    yield from storages.by_hand()


CASES = list(all_cases())


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study and a foreign one in a database, a study file and a plan."""
    folder = tmp_path_factory.mktemp("good")
    config = read_study(FIXTURES / "study.yaml")
    storage = open_storage(f"sqlite:///{folder}/studies.db", create=True)
    Worker(create_study(storage, config, LAYOUT), FakeRunner(LAYOUT)).run()
    optuna.create_study(study_name="foreign", storage=storage)
    storage.engine.dispose()
    shutil.copy(FIXTURES / "study.yaml", folder / "study.yaml")
    (folder / "plan.json").write_text(plan_text(good_plan()))
    return folder


def listing(folder: Path) -> dict[str, Any]:
    """What is there, but what a database has beside it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
        if not path.name.startswith("studies.db") and not path.is_symlink()
    }


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_bad_input(
    good_folder: Path,
    tmp_path: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(good_folder, folder)
    case.prepare(folder)
    monkeypatch.setenv("JOINTSEARCH_STORAGE", "sqlite:///studies.db")
    monkeypatch.setattr("jointsearch.study.storage.proxy.REACH_SECONDS", 0.2)
    for key, value in case.environment.items():
        monkeypatch.setenv(key, value)
    before = listing(folder)
    said = command(*case.arguments, folder=folder, status=2)
    assert said.stdout == ""
    assert said.stderr.endswith("\n")
    line = said.stderr[:-1]
    assert len(line) <= 500
    assert line.isprintable(), line
    assert line.startswith("Error: ")
    assert case.names in line
    assert "secret" not in line
    assert listing(folder) == before
    assert not (tmp_path / "owned").exists()


def test_there_are_many() -> None:
    assert len({case.id for case in CASES}) >= 350


@pytest.mark.parametrize("words", [("front", "small"), ("plan", "show", "plan.json"), ("schema",), ("help",)])
def test_nobody_reads(good_folder: Path, words: tuple[str, ...]) -> None:
    """Standard output is a pipe whose reader has left, or a full disk: no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "jointsearch", *words]
    environment = {**os.environ, "JOINTSEARCH_STORAGE": "sqlite:///studies.db"}
    said = []
    with Path("/dev/full").open("wb") as full:
        for output in (writer, full):
            done = subprocess.run(
                command, cwd=good_folder, env=environment, stdout=output, stderr=subprocess.PIPE, text=True
            )
            said.append(done.stderr)
    os.close(writer)
    assert said == ["", "Error: cannot be read or written (No space left on device)\n"]
