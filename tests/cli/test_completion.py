"""Completion with Tab: what click's own machinery, and a real shell, is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from jointsearch.cli import cli, suggestions
from jointsearch.launchers import LAUNCHERS
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.study.stored import StoredStudy

Create = Callable[..., StoredStudy]


def offered(*words: str) -> list[str]:
    """What Tab offers for the last of the words."""
    complete = BashComplete(cli, {}, "jointsearch", "_JOINTSEARCH_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOINTSEARCH_STORAGE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("com",), ["compare", "compare-outputs", "completion"]),
        (("study", "re"), ["resume", "retry", "refine"]),
        (("help", "study", "st"), ["start", "status", "stop"]),
        (("help", "front", ""), []),
        (("study", "start", "quickstart", "--launcher", ""), list(LAUNCHERS)),
        (("front", "--for"), ["--format"]),
        (("front", "--format", ""), ["table", "json", "csv"]),
    ],
)
def test_commands_options_and_choices(words: tuple[str, ...], names: list[str]) -> None:
    assert offered(*words) == names


@pytest.mark.parametrize(
    "words",
    [
        ("front",),
        ("export",),
        ("study", "status"),
        ("worker",),
        ("compare-outputs",),
        ("study", "import", "x", "--from"),
    ],
    ids=" ".join,
)
def test_names_of_the_studies_in_use(
    create: Create, url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    create()
    create(name="other")
    monkeypatch.setenv("JOINTSEARCH_STORAGE", url)
    assert offered(*words, "") == ["small", "other"]
    assert offered(*words, "o") == ["other"]


@pytest.mark.parametrize(
    "storage",
    [
        None,
        "sqlite:///none.db",
        "sqlite:///broken.db",
        "postgresql://127.0.0.1:1/none",
        "grpc://127.0.0.1:1",
        "?",
    ],
)
def test_a_storage_that_cannot_be_opened_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], storage: str | None
) -> None:
    (folder / "broken.db").write_text("no database")
    if storage:
        monkeypatch.setenv("JOINTSEARCH_STORAGE", storage)
    assert offered("front", "") == []
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in folder.iterdir()] == ["broken.db"]


def test_the_storage_option_goes_before_the_environment(
    create: Create, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create()
    monkeypatch.setenv("JOINTSEARCH_STORAGE", "sqlite:///none.db")
    assert offered("front", "--storage", url, "") == ["small"]


def test_a_storage_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestions, "PATIENCE_SECONDS", 0.05)
    released = suggestions.threading.Event()
    monkeypatch.setattr("jointsearch.study.storage.opening.open_storage", lambda url: released.wait())
    assert offered("front", "") == []
    released.set()


def test_study_files_and_plans(folder: Path) -> None:
    for name in ("mine.yaml", "other.yml", "plan.json", "notes.txt"):
        (folder / name).touch()
    (folder / "inside").mkdir()
    (folder / "inside" / "deep.yaml").touch()
    assert offered("study", "start", "") == ["quickstart", "mine.yaml", "other.yml"]
    assert offered("compare", "m") == ["mine.yaml"]
    assert offered("study", "start", "inside/") == ["inside/deep.yaml"]
    assert offered("train", "") == ["plan.json"]
    assert offered("plan", "show", "p") == ["plan.json"]
    # what is no plan is left to the shell, which completes folders in its own way
    complete = BashComplete(cli, {}, "jointsearch", "_JOINTSEARCH_COMPLETE")
    assert [(item.type, item.value) for item in complete.get_completions(["train"], "ins")] == [
        ("file", "ins")
    ]


def test_strategies_with_commas_between() -> None:
    assert offered("compare", "quickstart", "--strategies", "linear") == ["linear-decay"]
    assert offered("compare", "quickstart", "--strategies", "lora,qlo") == ["lora,qlora"]
    rest = offered("compare", "quickstart", "--strategies", "lora,")
    assert set(rest) == {f"lora,{name}" for name in (*STRATEGIES, "configurations", "all") if name != "lora"}


def test_devices_come_from_the_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestions, "NVIDIA", folder / "gpus")
    assert offered("worker", "small", "--device", "") == ["cpu", "cuda"]
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (folder / "gpus" / bus).mkdir(parents=True)
    assert offered("worker", "small", "--device", "") == ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert offered("worker", "small", "--device", "cuda:") == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_clicks_own(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    assert f"_JOINTSEARCH_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes(folder: Path) -> None:
    (folder / "jointsearch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jointsearch "$@"\n')
    (folder / "jointsearch").chmod(0o755)
    script = CliRunner().invoke(cli, ["completion", "bash"]).stdout
    words = "COMP_WORDS=(jointsearch study st); COMP_CWORD=2; _jointsearch_completion jointsearch"
    done = subprocess.run(
        ["bash", "--norc"],
        input=f'{script}\n{words}; echo "${{COMPREPLY[@]}}"\n',
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    assert done.stdout == "start status stop\n", done.stderr
