"""The commands that ask for trials, and the front beside its prediction."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Run = Callable[..., Result]
Create = Callable[..., StoredStudy]


@pytest.fixture
def study(create: Create, layout: ModelLayout) -> StoredStudy:
    found = create(search={"sampler": "additive", "trials": 12}, search_space={"ranks": [0, 4, 8]})
    Worker(found, FakeRunner(layout, noise=0.01)).run()
    return found


@pytest.fixture
def run(url: str) -> Run:
    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--storage", url], **options)

    return invoke


def test_predicted_beside_measured(study: StoredStudy, run: Run) -> None:
    found = json.loads(run("front", "small", "--predicted", "--format", "json").stdout)
    assert found.keys() == {"measured", "predicted", "verdict"}
    assert found["measured"] == json.loads(run("front", "small", "--format", "json").stdout)
    sizes = [row["model_bytes"] for row in found["predicted"]]
    assert sizes == sorted(sizes)
    losses = [row["loss"] for row in found["predicted"]]
    assert losses == sorted(losses, reverse=True)
    assert all(row["low"] <= row["loss"] <= row["high"] for row in found["predicted"])
    by_digest = {point.digest: point.number for point in study.records().measured}
    assert [row["trial"] for row in found["predicted"]] == [
        by_digest.get(row["digest"]) for row in found["predicted"]
    ]
    read = list(csv.DictReader(io.StringIO(run("front", "small", "--predicted", "--format", "csv").stdout)))
    assert [int(row["model_bytes"]) for row in read] == sizes
    table = run("front", "small", "--predicted").stdout
    assert "Predicted front of 'small'" in table
    assert found["verdict"] in table


def test_measuring_the_predicted_optimum(study: StoredStudy, run: Run) -> None:
    result = run("study", "measure", "small", "--max-bytes", "60kB", "--format", "json")
    point = json.loads(result.stdout)
    (waiting,) = study.records().waiting
    assert (waiting.digest, waiting.requested) == (point["digest"], True)
    assert point["model_bytes"] <= 60_000
    text = run("study", "measure", "small", "--max-bytes", "60kB").stdout
    assert text.startswith("put into the queue of study 'small': ")
    assert "predicted loss " in text


@pytest.mark.parametrize(
    ("size", "message"),
    [("1kB", "a plan of the search space has at least"), ("many", "a size is a number with")],
)
def test_a_bad_size_is_one_line(study: StoredStudy, run: Run, size: str, message: str) -> None:
    result = run("study", "measure", "small", "--max-bytes", size)
    assert result.exit_code != 0
    assert message in f"{result.stderr}{result.exception}"
    assert study.records().waiting == ()


def test_refining_shows_means_errors_and_a_verdict(study: StoredStudy, run: Run, layout: ModelLayout) -> None:
    assert "undecided" in run("front", "small").stdout
    for _ in range(20):
        result = run("study", "refine", "small", "--seeds", "2")
        num = len(study.records().waiting)
        if not num:
            break
        text = f"study 'small': {num} trials put into the queue; once they are measured, call this again\n"
        assert result.stderr == text
        Worker(study, FakeRunner(layout, noise=0.01)).run()
    assert result.stderr == "study 'small': nothing to do: all of these trials are there\n"
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    by_number = {point.number: point for point in study.records().measured}
    for row in rows:
        point = by_number[row["trial"]]
        assert row["num_seeds"] == len(point.trials)
        assert row["standard_error"] == point.standard_error("loss")
        assert row["loss"] == point.values["loss"]
    compared = [row for row in rows if row["p_value"] is not None]
    assert compared
    assert all(0 <= row["p_value"] <= 1 and row["compared_to"] for row in compared)
    table = run("front", "small").stdout
    assert "(3 seeds)" in table
    assert "searching has" in table
    assert ("Points that further seeds took off the front" in table) == any(row["fallen"] for row in rows)


def test_the_commands_ask_show_and_tell(create: Create, layout: ModelLayout, run: Run) -> None:
    study = create(calibration={"steps": 60}, search={"trials": 24})
    Worker(study, FakeRunner(layout)).run()
    result = run("study", "finals", "small", "--times", "4")
    num = len(study.records().waiting)
    assert result.stderr == (
        f"study 'small': {num} finals put into the queue; once they are measured, call this again\n"
    )
    left = run("study", "finals", "small", "--times", "4").stderr
    assert left == f"study 'small': nothing new to do: {num} trials are to be finished first\n"
    Worker(study, FakeRunner(layout)).run()
    done = run("study", "finals", "small", "--times", "4").stderr
    assert done == "study 'small': nothing to do: all finals are there\n"
    assert "Pareto front of 'small', finals of 240 steps" in run("front", "small").stdout
    assert "Pareto front of 'small'\n" in run("front", "small", "--steps", "60").stdout.replace("  ", "")
    wrong = run("front", "small", "--steps", "7")
    assert "must be a length that trials have had (60, 240), but got 7" in str(wrong.exception)
    status = json.loads(run("study", "status", "small", "--format", "json").stdout)
    assert status["finals"] == {"240": num}
    (found,) = status["fidelity"]
    assert found["sentence"].startswith("trials foretell finals of 240 steps with a rank correlation of ")
    wrong = run("study", "finals", "small", "--times", "4,x")
    assert wrong.exit_code == 2
    assert "must be whole numbers above 1 with commas between, such as 4,16, but got '4,x'" in wrong.stderr
