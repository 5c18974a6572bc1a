"""`jointsearch demo`: which commands it runs, where, and how it ends; a slow test really runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli, demo
from jointsearch.plan.plan_file import read_plan

STEPS = [
    "study start quickstart",
    "front quickstart",
    "export quickstart -o plan.json",
    "plan show plan.json",
    "train plan.json -o runs/final",
    "evaluate runs/final",
]


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """The commands that are run, and where; `plan show` is made to fail where there is a file 'fail'."""
    found: list[tuple[str, Path]] = []

    def run(words: list[str], folder: Path) -> int:
        found.append((" ".join(words), folder))
        return 3 if words[0] == "plan" and Path("fail").exists() else 0

    monkeypatch.setattr(demo, "_run", run)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["demo", *arguments])


def test_it_goes_the_whole_way_in_a_folder_of_its_own(began: list[tuple[str, Path]]) -> None:
    result = run()
    assert result.exit_code == 0
    assert [words for words, _ in began] == STEPS
    (folder,) = {folder for _, folder in began}
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    folder.rmdir()
    shown = re.findall(r"^\$ jointsearch (.*)$", result.stdout, re.MULTILINE)
    assert shown == STEPS
    assert result.stdout.endswith(f"\nEverything is in {folder}\n")


def test_it_ends_with_the_first_command_that_fails(
    began: list[tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fail").touch()
    result = run("--folder", "here", "--trials", "8")
    assert result.exit_code == 3
    assert [words for words, _ in began] == ["study start quickstart --trials 8", *STEPS[1:4]]
    assert {folder for _, folder in began} == {tmp_path / "here"}
    assert "has ended early" in result.stderr


def test_a_folder_with_something_in_it_is_left_alone(began: list[tuple[str, Path]], tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = run("--folder", str(tmp_path))
    assert "must be empty or new" in str(result.exception)
    assert began == []


def test_a_step_is_a_process_with_a_storage_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOINTSEARCH_STORAGE", f"sqlite:///{tmp_path}/mine.db")
    assert demo._run(["study", "list"], tmp_path) == 2  # there is no storage in the folder yet
    assert demo._run(["version"], tmp_path) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes of training, on a busy machine many
def test_the_demo(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    start = [sys.executable, "-m", "jointsearch"]
    command = [*start, "demo", "--folder", str(folder), "--trials", "12"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Everything is in {folder}\n")

    command = [*start, "front", "quickstart", "--format", "json"]
    front = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True)
    rows = json.loads(front.stdout)
    assert sum(bool(row["label"]) for row in rows) == 9  # every format at every rank
    assert any(row["on_front"] and not row["label"] for row in rows)
    assert min(row["loss"] for row in rows) < max(row["loss"] for row in rows) - 0.5

    assert read_plan(folder / "plan.json").plan
    metrics = json.loads((folder / "runs" / "final" / "metrics.json").read_text())
    assert metrics["steps"] == 300
