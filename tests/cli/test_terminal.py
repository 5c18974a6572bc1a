"""What others have stored or typed reaches a terminal as text: no command to it, and no line too many."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from jointsearch.cli import cli, main
from jointsearch.cli.messages import say
from jointsearch.config.problems import study_from
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyFileError, first_line, one_line, visible
from jointsearch.study.full_runs import Selection, select_trial, selections
from jointsearch.study.study import load_study

STUDY_FILE = Path(__file__).parents[1] / "fixtures" / "study.yaml"
CLEAR = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\ud800"
"""Clears the screen, names the window, turns red and to the left, and is no whole character."""


def errors_of(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "argv", ["jointsearch", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["study", "status", "x" * 100_000],
        ["study", "status", "one\ntwo\x1b[2Jthree"],
        ["study", "start", "no\nfile.yaml"],
        ["plan", "show", "x" * 100_000],
        ["plan", "show", "no\nplan\x1b.json"],
        ["front", "small", "--format", "y" * 100_000],
        ["front", "small", "--storage", "nonsense" * 10_000],
        ["select", "small", "--max-bytes", "z\n" * 10_000],
        ["x\x1b[2J" * 100],
    ],
)
def test_an_error_is_one_short_line_without_commands(
    finished_url: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = errors_of(arguments, monkeypatch, capsys)
    assert len(printed) <= 501
    assert printed.startswith("Error: ")
    assert printed.endswith("\n")
    assert printed[:-1].isprintable()


def test_the_middle_of_a_long_line_goes_and_its_fix_stays() -> None:
    line = one_line(f"must be short, but got {'x' * 1_000_000}; write less")
    assert line.startswith("must be short, but got xxx")
    assert line.endswith("x; write less")
    assert len(line) <= 490
    assert one_line("as it is") == "as it is"
    assert one_line("two\nlines") == "two\\nlines"
    assert first_line(ValueError("one\x1b[2J\ntwo")) == "one\\x1b[2J"


@pytest.mark.parametrize("place", [("device",), ("calibration", "steps"), ("task", "type"), ("search",)])
@pytest.mark.parametrize("value", ["x" * 100_000, ["x" * 100_000], "a\nb\x1b[2J"])
def test_a_value_is_not_echoed_whole(tmp_path: Path, place: tuple[str, ...], value: Any) -> None:
    values: dict[str, Any] = read_study(STUDY_FILE).model_dump(mode="json")
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(StudyFileError) as caught:
        study_from(values)
    assert len(str(caught.value)) <= 400
    assert str(caught.value).isprintable()
    (tmp_path / "study.yaml").write_text(json.dumps(values))
    with pytest.raises(StudyFileError, match=r"study\.yaml:1: ") as caught:
        read_study(tmp_path / "study.yaml")
    assert len(str(caught.value)) <= 400 + len(f"{tmp_path}/study.yaml:1: ")


def test_what_is_visible_is_left_as_it_is() -> None:
    text = "Grün, 日本語, العربية, 👩‍💻 and a tab\tand a line\n"
    assert visible(text, keep="\t\n") == text
    assert visible(text).endswith("tab\\tand a line\\n")
    assert visible(CLEAR) == r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\ud800"


def test_notes_are_short_and_clean_where_they_are_stored(finished_url: str) -> None:
    study = load_study("small", finished_url)
    for note, stored in (
        (f"for {CLEAR} the phone", "for [2J]0;owned31m the phone"),
        ("x" * 3_000_000, "x" * 498 + " …"),
        ("two\nlines", "two\nlines"),
    ):
        select_trial(study.optuna_study, 0, note)
        assert study.optuna_study.user_attrs["selection:0"]["note"] == stored


def test_what_was_stored_before_locks_nobody_out(finished_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study("small", finished_url).optuna_study
    stored = {"trial": 0, "note": f"a{CLEAR}b", "at": datetime.now(UTC).isoformat()}
    study.set_user_attr("selection:0", stored)
    study.set_user_attr("selection", 0)
    run = {
        "selection": stored,
        "state": "failed",
        "worker": CLEAR,
        "folder": CLEAR,
        "failure": f"no{CLEAR}room",
    }
    study.set_user_attr("full_run:0", run)
    assert selections(study.user_attrs)[0].note == "a[2J]0;owned31mb"
    result = CliRunner().invoke(cli, ["study", "status", "small"])
    assert result.exit_code == 0, result.output
    assert "no[2J]0;owned31mroom" in result.stdout
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(result.stdout)


def test_a_line_of_a_command_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    say(Console(force_terminal=True), f"trial 3 failed: {CLEAR}[red]x[/red]")
    printed = capsys.readouterr().out
    assert printed == "trial 3 failed: " + r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\ud800[red]x[/red]" + "\n"


def test_selection_keeps_what_it_cannot_clean() -> None:
    with pytest.raises(ValueError, match="note"):
        Selection.model_validate({"trial": 1, "note": 3})


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize("option", ["--max-loss", "--quality"])
def test_no_point_is_chosen_by_what_is_no_number(
    finished_url: str,
    option: str,
    number: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = errors_of(["select", "small", option, number], monkeypatch, capsys)
    assert f"must be a finite number, but got {number}" in printed
