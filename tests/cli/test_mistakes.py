"""A mistake of a person is one line and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli, main

FIXTURES = Path(__file__).parents[1] / "fixtures"
STUDY_FILE = FIXTURES / "study.yaml"
Run = Callable[..., Result]


def _good_plan(folder: Path) -> Path:
    assert CliRunner().invoke(cli, ["export", "small", "-o", str(folder / "plan.json")]).exit_code == 0
    return folder / "plan.json"


def _damaged_plan(folder: Path) -> None:
    path = _good_plan(folder)
    path.write_text(path.read_text()[:500])


def _edited_plan(folder: Path) -> None:
    path = _good_plan(folder)
    path.write_text(path.read_text().replace('"rank": 0', '"rank": 1', 1))


def _study_file(old: str, new: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        text = STUDY_FILE.read_text()
        assert old in text
        (folder / "study.yaml").write_text(text.replace(old, new))

    return write


def _nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "arguments", "pieces"),
    [
        (
            _study_file("sampler:", "sampelr:"),
            ["study", "start", "study.yaml"],
            ["study.yaml:14: unknown key 'search.sampelr'; did you mean 'sampler'?"],
        ),
        (
            _study_file("steps: 5", "steps: 6"),
            ["study", "start", "study.yaml"],
            ["made from another study file (calibration.steps: 5 -> 6)"],
        ),
        (
            _study_file("name: small", "name: foreign"),
            ["study", "start", "study.yaml"],
            ["not made by jointsearch"],
        ),
        (
            _nothing,
            ["study", "start", "none.yaml"],
            ["a study is a YAML file or one of quickstart", "'none.yaml'"],
        ),
        (_nothing, ["study", "start", "quikstart"], ["'quikstart'", "did you mean 'quickstart'?"]),
        (_nothing, ["study", "start", str(STUDY_FILE), "--trials", "0"], ["--trials"]),
        (
            _nothing,
            ["study", "start", str(STUDY_FILE), "--storage", "sqlite:///nowhere/s.db"],
            ["the folder of the storage", "create nowhere"],
        ),
        (_nothing, ["study", "status", "smal"], ["there is no study 'smal'; did you mean 'small'?"]),
        (_nothing, ["study", "delete", "smal", "--yes"], ["there is no study 'smal'"]),
        (
            _nothing,
            ["study", "status"],
            ["Missing argument 'NAME'; see `jointsearch study status --help`\n"],
        ),
        (
            _nothing,
            ["study", "stat"],
            ["No such command 'stat'; did you mean 'start' or 'status'? See `jointsearch study --help`\n"],
        ),
        (
            _nothing,
            ["frnt", "small"],
            ["No such command 'frnt'; did you mean 'front'? See `jointsearch --help`"],
        ),
        (
            _nothing,
            ["front", "small", "--formt", "csv"],
            ["No such option '--formt'; did you mean '--format'? See `jointsearch front --help`"],
        ),
        (
            _nothing,
            ["help", "study", "strat"],
            ["'strat'; did you mean 'start' or 'status'? See `jointsearch study --help`"],
        ),
        (_nothing, ["help", "front", "small"], ["'jointsearch front' has no commands, but got 'small'"]),
        (_nothing, ["completion", "tcsh"], ["'tcsh' is not one of 'bash', 'zsh', 'fish'"]),
        (
            _nothing,
            ["completion"],
            [
                "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish",
                "; see `jointsearch completion --help`",
            ],
        ),
        (_nothing, ["demo", "--folder", "studies.db"], ["--folder", "studies.db"]),
        (_nothing, ["front", "foreign"], ["'foreign' was not made by jointsearch"]),
        (_nothing, ["front", "empty"], ["study 'empty' has no complete trial yet"]),
        (_nothing, ["front", "small", "--format", "xml"], ["--format", "xml"]),
        (
            _nothing,
            ["front", "small", "--storage", "sqlite:///none.db"],
            ["there is no storage at sqlite:///none.db"],
        ),
        (_nothing, ["front", "small", "--storage", "none.db"], ["the storage must be a URL"]),
        (_nothing, ["compare-outputs", "small:0", "small:x"], ["a trial is NAME:NUMBER", "'small:x'"]),
        (_nothing, ["compare-outputs", "small:0", "small:99"], ["which has 10, but got 99"]),
        (_nothing, ["compare-outputs", "small:0", "."], ["metrics.json has none"]),
        (
            _nothing,
            ["select", "small"],
            ["give exactly one of", "--max-loss, --quality, --knee, --trial"],
        ),
        (_nothing, ["select", "small", "--knee", "--trial", "1"], ["exactly one of", "--knee", "--trial"]),
        (_nothing, ["select", "small", "--max-bytes", "5 apples"], ["--max-bytes", "'5 apples'"]),
        (_nothing, ["select", "small", "--max-bytes", "1kB"], ["no point of the front has at most 1 kB"]),
        (
            _nothing,
            ["select", "small", "--max-loss", "0.1"],
            ["no point of the front has a loss as good as 0.1"],
        ),
        (_nothing, ["select", "small", "--trial", "99"], ["which has 10, but got 99"]),
        (_nothing, ["select", "small", "--trial", "2"], ["trial 2 is fail"]),
        (_nothing, ["select", "empty", "--knee"], ["no complete trial yet"]),
        (_nothing, ["select", "small", "--withdraw", "1"], ["must be a selected one ([]), but got 1"]),
        (_nothing, ["worker", "small", "-o", "out"], ["--output is where full runs go", "--full-runs"]),
        (_nothing, ["export", "empty", "-o", "plan.json"], ["no complete trial yet"]),
        (_nothing, ["export", "small"], ["Missing option"]),
        (
            _nothing,
            ["export", "small", "-o", "studies.db/plan.json"],
            ["studies.db/plan.json: cannot be written ("],
        ),
        (_nothing, ["export", "small", "-o", "studies.db"], ["studies.db: is there already", "--force"]),
        (_nothing, ["plan", "show", "none.json"], ["none.json: cannot be read (No such file"]),
        (_damaged_plan, ["plan", "show", "plan.json"], ["plan.json:", "damaged, not valid JSON"]),
        (_edited_plan, ["plan", "show", "plan.json"], ["plan.json: ", "rank 1"]),
        (_nothing, ["plan", "show", str(FIXTURES / "layout.json")], ["layout.json: not a plan"]),
        (_damaged_plan, ["train", "plan.json", "-o", "out"], ["damaged, not valid JSON"]),
        (_nothing, ["evaluate", "nowhere"], ["a run is a folder that `jointsearch train` made", "nowhere"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    finished_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], None],
    arguments: list[str],
    pieces: list[str],
) -> None:
    prepare(tmp_path)
    before = sorted(entry.name for entry in tmp_path.iterdir() if "studies.db" not in entry.name)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["jointsearch", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    assert printed.err.count("\n") == 1, printed.err
    assert [piece for piece in pieces if piece not in printed.err] == [], printed.err
    assert sorted(entry.name for entry in tmp_path.iterdir() if "studies.db" not in entry.name) == before
