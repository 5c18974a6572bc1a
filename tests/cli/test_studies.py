"""`jointsearch study`, and `--storage`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import study_names

FIXTURES = Path(__file__).parents[1] / "fixtures"
STUDY_FILE = FIXTURES / "study.yaml"
Run = Callable[..., Result]


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
    assert status["hypervolume"] == records.hypervolume
    assert records.hypervolume is not None and records.hypervolume >= 1
    assert status["seconds_left"] == 0
    table = run("study", "status", "small").stdout
    assert "trial 2 failed" in table
    assert "out of memory [red]on a small device[/red]" in table


def test_study_status_without_trials(run: Run) -> None:
    status = json.loads(run("study", "status", "empty", "--format", "json").stdout)
    assert (status["complete"], status["waiting"], status["front"]) == (0, 4, [])
    assert (status["best"], status["hypervolume"], status["seconds_left"]) == ("-", None, None)
    assert "hypervolume" in run("study", "status", "empty").stdout


def test_study_delete_asks_first(run: Run, finished_url: str) -> None:
    answer = CliRunner().invoke(cli, ["study", "delete", "small"], input="n\n")
    assert answer.exit_code == 1
    assert "Delete study 'small' with 10 trials?" in answer.stderr
    assert study_names(open_storage(finished_url)) == ["small", "empty"]
    result = run("study", "delete", "small", input="y\n")
    assert "deleted study 'small' with 10 trials" in result.stderr
    run("study", "delete", "empty", "--yes")
    assert study_names(open_storage(finished_url)) == []
    assert json.loads(run("study", "list", "--format", "json").stdout) == []


def test_a_full_study_starts_without_a_model(run: Run) -> None:
    result = run("study", "start", str(STUDY_FILE))
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "study 'small': 9 complete, 1 failed; finished",
        "undecided: 1 of 1 points of the front look better than plans of equal bytes that need no search, "
        "under the search's own seed; `jointsearch study refine small` measures both with further ones",
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
