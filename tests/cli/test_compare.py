"""`jointsearch compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from jointsearch.cli import main
from jointsearch.testing import FakeRunner

FIXTURES = Path(__file__).parents[1] / "fixtures"
STUDY_FILE = FIXTURES / "study.yaml"
Run = Callable[..., Result]


class Loaded(FakeRunner):
    """What the command loads, which here trains nothing."""

    notes: tuple[str, ...] = ()


def test_compare(run: Run, finished_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointsearch.starting.build_runner", lambda config, layout, tell: Loaded(layout))
    arguments = ("compare", str(STUDY_FILE), "--strategies", "qlora,linear-decay,lora", "--seeds", "2")
    saved = [f"small{suffix}" for suffix in (".md", ".csv", ".json", ".html")]
    outputs = [word for name in saved for word in ("-o", name)]
    found = json.loads(run(*arguments, "--format", "json", *outputs).stdout)
    assert found["rows"][0]["name"] == "qlora"
    assert {row["name"] for row in found["rows"]} >= {"qlora", "linear-decay", "lora"}
    assert all(len(row["trials"]) == 2 for row in found["rows"])
    assert json.loads((tmp_path / "small.json").read_text()) == found
    assert all((tmp_path / name).stat().st_size > 500 for name in saved)

    # all is measured: nothing is loaded any more
    monkeypatch.setattr("jointsearch.starting.build_runner", pytest.fail)
    assert run(*arguments, "--format", "csv").stdout == (tmp_path / "small.csv").read_text()
    assert run(*arguments, "--format", "markdown").stdout == (tmp_path / "small.md").read_text()
    assert run(*arguments, "--format", "html").stdout == (tmp_path / "small.html").read_text()
    table = run(*arguments)
    assert "linear-decay" in table.stdout
    assert "paired by seed" in table.stderr
    # its trials are there for every other command
    labels = {row["label"] for row in json.loads(run("front", "small", "--format", "json").stdout)}
    assert "linear-decay" in labels


def test_compare_lists_the_strategies(run: Run) -> None:
    text = run("compare", "--list").stdout
    assert all(name in text for name in ("qlora", "complementary-reversed", "adalora-distilled"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a study FILE"),
        ([str(STUDY_FILE), "--strategies", "linear-decai"], "did you mean 'linear-decay'"),
        ([str(STUDY_FILE), "--max-bytes", "many"], "a size is a number with"),
        ([str(STUDY_FILE), "--max-bytes", "1kB"], "strategy qlora: a byte budget must hold"),
        ([str(STUDY_FILE), "-o", "table.txt"], "a file must end in .md, .csv, .json, .html"),
        ([str(STUDY_FILE), "-o", "nowhere/table.md"], "there is no folder nowhere"),
    ],
)
def test_compare_says_what_is_wrong(
    finished_url: str,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["jointsearch", "compare", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
