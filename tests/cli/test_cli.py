from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import optuna
import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli, main
from jointsearch.cli.worker import parse_seconds
from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import read_plan
from jointsearch.runner import Trial
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, open_study, study_names
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

FIXTURES = Path(__file__).parents[1] / "fixtures"
STUDY_FILE = FIXTURES / "study.yaml"
LAYOUT = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())

Run = Callable[..., Result]


class FailsThird:
    """The fake runner, but the third plan is too much for it."""

    def __init__(self) -> None:
        self._runs = 0

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self._runs += 1
        if self._runs == 3:
            raise TrialFailed("out of memory [red]on a small device[/red]")
        return FakeRunner(LAYOUT).run(plan, trial)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a finished study 'small', a study 'empty' without trials, and a foreign one."""
    path = tmp_path_factory.mktemp("storage") / "studies.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    config = read_study(STUDY_FILE)
    Worker(create_study(storage, config, LAYOUT), FailsThird()).run()
    create_study(
        storage, StudyConfig.model_validate({**config.model_dump(mode="json"), "name": "empty"}), LAYOUT
    )
    optuna.create_study(study_name="foreign", storage=storage)
    storage.engine.dispose()
    return path


@pytest.fixture
def url(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the database, which is the default storage, and a working directory of its own."""
    copy = f"sqlite:///{shutil.copy(finished, tmp_path / 'studies.db')}"
    monkeypatch.setenv("JOINTSEARCH_STORAGE", copy)
    monkeypatch.chdir(tmp_path)
    return copy


@pytest.fixture
def small(url: str) -> Iterator[StoredStudy]:
    storage = open_storage(url)
    yield open_study(storage, "small")
    storage.engine.dispose()


@pytest.fixture
def records(small: StoredStudy) -> StudyRecords:
    return small.records()


@pytest.fixture
def run(url: str) -> Run:
    """Runs a command that must succeed."""

    def invoke(*arguments: str, **options: Any) -> Result:
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False, **options)
        assert result.exit_code == 0, result.output
        return result

    return invoke


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        inside = (*path, name)
        found += commands(command, inside) if isinstance(command, click.Group) else [inside]
    return found


ALL_COMMANDS = commands(cli)


def test_the_commands_are_these() -> None:
    assert {" ".join(path) for path in ALL_COMMANDS} == {
        "",
        "dashboard",
        "report",
        "study",
        "study start",
        "study create",
        "study pause",
        "study resume",
        "study stop",
        "study cancel",
        "study retry",
        "study import",
        "storage",
        "storage proxy",
        "worker",
        "study list",
        "study status",
        "study delete",
        "study measure",
        "study refine",
        "front",
        "select",
        "export",
        "plan",
        "plan show",
        "train",
        "evaluate",
        "compare",
        "compare-outputs",
        "doctor",
        "init",
        "demo",
        "completion",
        "help",
        "version",
    }


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="jointsearch")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(('jointsearch', *path))} ")
    example = result.stdout.partition("Example:\n")[2]
    assert example.strip().startswith(f"jointsearch {' '.join(path)}".strip())
    assert "-h, --help" in result.stdout


def test_study_list(run: Run) -> None:
    listed = json.loads(run("study", "list", "--format", "json").stdout)
    assert [entry["name"] for entry in listed] == ["small", "empty"]
    assert listed[0] == {
        "name": "small",
        "model": "some/model",
        "task": "causal-lm",
        "objectives": ["loss", "model_bytes"],
        "complete": 9,
        "running": 0,
        "failed": 1,
        "stopped_early": 0,
        "of": 10,
    }
    assert (listed[1]["complete"], listed[1]["failed"]) == (0, 0)
    table = run("study", "list").stdout
    assert "small" in table
    assert "empty" in table
    assert "foreign" not in table


def test_study_status(run: Run, records: StudyRecords) -> None:
    status = json.loads(run("study", "status", "small", "--format", "json").stdout)
    assert (status["complete"], status["failed"], status["waiting"], status["of"]) == (9, 1, 0, 10)
    assert status["failures"] == {"2": "out of memory [red]on a small device[/red]"}
    assert status["front"] == [trial.number for trial in records.front]
    assert status["selected"] is None
    assert 0 < status["hypervolume"] <= 1
    assert status["seconds_left"] == 0
    table = run("study", "status", "small").stdout
    assert "trial 2 failed" in table
    assert "out of memory [red]on a small device[/red]" in table


def test_study_status_without_trials(run: Run) -> None:
    status = json.loads(run("study", "status", "empty", "--format", "json").stdout)
    assert (status["complete"], status["waiting"], status["front"]) == (0, 4, [])
    assert (status["best"], status["hypervolume"], status["seconds_left"]) == ("-", None, None)
    assert "hypervolume" in run("study", "status", "empty").stdout


def test_front_is_the_same_in_json_csv_and_the_table(run: Run, records: StudyRecords) -> None:
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    front = [row for row in rows if row["on_front"]]
    assert [row["trial"] for row in front] == [trial.number for trial in records.front]
    assert [row["model_bytes"] for row in front] == sorted(row["model_bytes"] for row in front)
    assert [row["loss"] for row in front] == sorted((row["loss"] for row in front), reverse=True)
    others = {row["label"] for row in rows if not row["on_front"]}
    assert {row["label"] for row in rows if row["label"]} == {
        trial.origin.name for trial in records.baselines
    }
    assert "" not in others
    assert [row["knee"] for row in rows].count(True) == 1
    assert not any(row["selected"] for row in rows)
    for row in rows:
        trial = records.trials[row["trial"]]
        cost = plan_cost(LAYOUT, trial.plan)
        assert (row["loss"], row["model_bytes"]) == tuple(trial.values.values())
        assert row["model_bytes"] == cost.model_bytes
        assert row["trainable_parameters"] == cost.trainable_parameters

    read = list(csv.DictReader(io.StringIO(run("front", "small", "--format", "csv").stdout)))
    written = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    assert written == read

    table = run("front", "small").stdout
    assert "Pareto front of 'small'" in table
    assert ("Uniform and named plans that are not on it" in table) is bool(others)
    for row in rows:
        assert f"{row['loss']:.4f}" in table
        assert row["label"] in table


def test_select_by_bytes_loss_knee_and_trial(run: Run, records: StudyRecords, small: StoredStudy) -> None:
    front = [(trial.number, *trial.values.values()) for trial in records.front]
    assert len(front) >= 3
    number, loss, size = front[1]

    def selected(*arguments: str) -> int:
        printed = json.loads(run("select", "small", *arguments, "--format", "json").stdout)
        rows = json.loads(run("front", "small", "--format", "json").stdout)
        marked = [row["trial"] for row in rows if row["selected"]]
        shown = [row["trial"] for row in rows if row["trial"] == printed["trial"]]
        assert marked == shown
        assert printed["loss"] == records.trials[printed["trial"]].values["loss"]
        return int(printed["trial"])

    assert selected("--max-bytes", str(int(size))) == number
    assert selected("--max-bytes", str(int(size) - 1)) == front[0][0]
    assert selected("--max-bytes", "1GB") == front[-1][0]
    assert selected("--max-loss", repr(loss)) == number
    assert selected("--max-loss", "100") == front[0][0]
    assert selected("--trial", "1") == 1
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    assert selected("--knee") == next(row["trial"] for row in rows if row["knee"])
    text = run("select", "small", "--trial", "0").stdout
    assert text.startswith("selected loss ")
    assert text.endswith("(trial 0, uniform 4-bit rank 0)\n")


def test_selections_have_notes_and_are_withdrawn(run: Run) -> None:
    run("select", "small", "--trial", "0", "--note", "small\nand quick")
    run("select", "small", "--trial", "1")
    status = json.loads(run("study", "status", "small", "--format", "json").stdout)
    assert status["selected"] == 1
    assert [(entry["trial"], entry["note"], entry["state"]) for entry in status["full_runs"]] == [
        (0, "small\nand quick", "waiting"),
        (1, "", "waiting"),
    ]
    assert "and quick" in run("study", "status", "small").stdout
    withdrawn = run("select", "small", "--withdraw", "1", "--format", "json")
    assert json.loads(withdrawn.stdout) == {"withdrawn": 1}
    assert run("select", "small", "--withdraw", "0").stdout == "trial 0 is not selected any more\n"
    status = json.loads(run("study", "status", "small", "--format", "json").stdout)
    assert (status["selected"], status["full_runs"]) == (None, [])


def test_export_writes_the_selection_or_the_knee(run: Run, records: StudyRecords, tmp_path: Path) -> None:
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    result = run("export", "small", "-o", "knee.json")
    assert result.stdout == ""
    content = read_plan(tmp_path / "knee.json")
    assert content.origin is not None
    assert content.origin.trial == next(row["trial"] for row in rows if row["knee"])
    assert f"wrote knee.json: trial {content.origin.trial} of 'small', " in result.stderr

    run("select", "small", "--trial", "1")
    run("export", "small", "--output", "one.json")
    content = read_plan(tmp_path / "one.json")
    assert content.plan == records.trials[1].plan
    assert content.cost.model_bytes == records.trials[1].values["model_bytes"]


def test_export_makes_folders_and_overwrites_only_when_asked(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "plan.json"
    run("export", "small", "-o", str(output))
    output.write_text("mine")
    refused = CliRunner().invoke(cli, ["export", "small", "-o", str(output)])
    assert refused.exit_code != 0
    assert output.read_text() == "mine"
    run("export", "small", "-o", str(output), "--force")
    assert read_plan(output).plan


def test_plan_show(run: Run, records: StudyRecords) -> None:
    run("select", "small", "--trial", "1")
    run("export", "small", "-o", "plan.json")
    shown = json.loads(run("plan", "show", "plan.json", "--format", "json").stdout)
    assert shown["digest"] == records.trials[1].digest
    assert shown["model"] == "some/model"
    assert shown["model_bytes"] == records.trials[1].values["model_bytes"]
    assert shown["modules"]["embed"] == {"bits": 4, "rank": 0}
    assert shown["modules"]["layers.1.mlp.up"] == {"bits": 4, "rank": 4}
    assert shown["left_out"] == LAYOUT.left_out
    table = run("plan", "show", "plan.json").stdout
    assert table.count("4 bit r4") == 4  # attention and mlp of two blocks
    assert f"({shown['model_bytes']})" in table
    assert "study 'small', trial 1 (uniform 4-bit rank 4)" in table
    assert "left at 16 bits: router" in table


def test_study_delete_asks_first(run: Run, url: str) -> None:
    answer = CliRunner().invoke(cli, ["study", "delete", "small"], input="n\n")
    assert answer.exit_code == 1
    assert "Delete study 'small' with 10 trials?" in answer.stderr
    assert study_names(open_storage(url)) == ["small", "empty"]
    result = run("study", "delete", "small", input="y\n")
    assert "deleted study 'small' with 10 trials" in result.stderr
    run("study", "delete", "empty", "--yes")
    assert study_names(open_storage(url)) == []
    assert json.loads(run("study", "list", "--format", "json").stdout) == []


def test_a_full_study_starts_without_a_model(run: Run) -> None:
    result = run("study", "start", str(STUDY_FILE))
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "study 'small': 9 complete, 1 failed; finished",
        "undecided: 2 points of the front look better than the uniform plans of no more bytes, "
        "under one seed; `jointsearch study refine small` measures them with further ones",
        "next: jointsearch front small",
    ]
    assert (
        "study 'small': 9 complete, 1 failed; finished"
        in run("study", "start", str(STUDY_FILE), "--trials", "4").stderr
    )


def test_the_storage_option_goes_before_the_environment(run: Run, tmp_path: Path) -> None:
    open_storage(f"sqlite:///{tmp_path}/other.db", create=True).engine.dispose()
    listed = run("study", "list", "--storage", f"sqlite:///{tmp_path}/other.db", "--format", "json").stdout
    assert json.loads(listed) == []


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
    url: str,
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


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from jointsearch.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})


def test_a_mistake_in_a_process_of_its_own(url: str) -> None:
    done = script("front", "smal")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "Error: there is no study 'smal'; did you mean 'small'?\n"


def test_json_is_alone_on_standard_output(url: str) -> None:
    done = script("front", "small", "--format", "json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(json.loads(done.stdout)) >= 4


def test_no_command_shows_the_help() -> None:
    done = script()
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr
    assert script("--version").stdout.split()[-1] == "0.1.0"


def test_outputs_side_by_side(run: Run, records: StudyRecords, tmp_path: Path) -> None:
    losses = [trial.measurement.metrics["loss"] for trial in records.trials[:2]]
    pair = {"input": "2 + 2 =", "reference": "4", "A": f"{4 + losses[0]:.3f}", "B": f"{4 + losses[1]:.3f}"}
    shown = run("compare-outputs", "small:0", "small:1", "--format", "json").stdout
    assert json.loads(shown) == {"A": "small:0", "B": "small:1", "examples": [pair]}
    text = run("compare-outputs", "small:0", "small:0").stdout
    assert text.splitlines() == [
        "1. 2 + 2 =",
        "   reference: 4",
        f"   small:0: {pair['A']}",
        f"   small:0: {pair['A']} (the same)",
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"examples": [{**pair, "output": "4"}]}))
    beside = json.loads(run("compare-outputs", "small:1", str(folder), "--format", "json").stdout)
    assert beside["examples"] == [{**pair, "A": pair["B"], "B": "4"}]


def test_any_quality_can_bound_the_selection(run: Run, records: StudyRecords) -> None:
    second = records.front[1]
    loss = second.values["loss"]
    assert json.loads(run("select", "small", "--quality", repr(loss), "--format", "json").stdout) == {
        "trial": second.number,
        **second.values,
    }


@pytest.mark.parametrize(
    ("command", "wanted"), [("pause", "pause"), ("resume", "run"), ("stop", "stop"), ("cancel", "cancel")]
)
def test_workers_are_told_what_is_wanted(run: Run, small: StoredStudy, command: str, wanted: str) -> None:
    assert "study 'small': its workers" in run("study", command, "small").stderr
    assert small.optuna_study.user_attrs["wanted"] == wanted


def test_failed_trials_go_back_into_the_queue(run: Run, small: StoredStudy) -> None:
    (failed,) = small.records().failed
    assert f"trials {failed.number} put back" in run("study", "retry", "small").stderr
    records = small.records()
    assert [trial.digest for trial in records.waiting] == [failed.digest]
    assert records.failed == ()
    assert "no trial has failed" in run("study", "retry", "small").stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("1e1m", 600)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten", "10d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time is a number with s, m or h"):
        parse_seconds(text)


class Loaded(FakeRunner):
    """What the command loads, which here trains nothing."""

    notes: tuple[str, ...] = ()


def test_compare(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointsearch.assemble.build_runner", lambda config, layout: Loaded(layout))
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
    monkeypatch.setattr("jointsearch.assemble.build_runner", pytest.fail)
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
    url: str,
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
