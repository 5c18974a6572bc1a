"""Studies as objects: what Optuna's users know, and what jointsearch adds."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import jointsearch as js
from jointsearch.errors import StudyError


def test_a_study_is_the_optuna_study_of_its_storage(study: js.Study, url: str) -> None:
    loaded = optuna.load_study(study_name="small", storage=study.optuna_study._storage)
    assert [t.number for t in study.best_trials] == [t.number for t in loaded.best_trials]
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    table = study.trials_dataframe()
    assert list(table["values_loss"][:16]) == [t.values[0] for t in loaded.trials[:16]]
    assert not [column for column in table.columns if column.startswith("user_attrs")]


def test_the_front_is_what_no_plan_dominates(study: js.Study) -> None:
    table = study.front()
    points = [(t.number, *t.values) for t in study.trials if t.state == TrialState.COMPLETE]
    expected = {
        number
        for number, loss, size in points
        if not any(a <= loss and b <= size and (a, b) != (loss, size) for _, a, b in points)
    }
    assert set(table["trial"]) == expected
    assert list(table["model_bytes"]) == sorted(table["model_bytes"])


def test_selecting(study: js.Study) -> None:
    points = sorted((t.values[1], t.values[0], t.number) for t in study.best_trials)
    size, loss, number = points[2]
    chosen = study.select(max_bytes=int(size))
    assert chosen.trial == number
    assert chosen.values == pytest.approx({"loss": loss, "model_bytes": size})
    assert chosen.plan == study.plan(number)
    assert chosen.plan.digest == study.trials[number].user_attrs["digest"]
    assert study.select(max_bytes=f"{size / 1000}kB").trial == number
    assert study.select(quality=loss).trial == number
    assert study.select(trial=0).trial == 0
    assert study.select().trial == study.select(knee=True).trial


def test_a_selection_is_trained_in_full_only_on_request(study: js.Study) -> None:
    from jointsearch.study.full_runs import full_runs

    chosen = study.select()
    assert full_runs(study.optuna_study.user_attrs) == {}
    chosen.request_full_run("for the phone")
    assert full_runs(study.optuna_study.user_attrs)[chosen.trial].selection.note == "for the phone"


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"max_bytes": "1.5MB", "knee": True}, StudyError, "by one of max_bytes, knee"),
        ({"max_bytes": "1.5 parsecs"}, StudyError, "max_bytes: a size is a number"),
        ({"max_bytes": 3}, StudyError, "no point of the front has at most 3 B"),
        ({"quality": 0.1}, StudyError, "as good as 0.1"),
        ({"trial": 99}, StudyError, "but got 99"),
        ({"max_training_memory": "8GB"}, StudyError, "must be foretold"),
    ],
)
def test_a_point_that_is_not_there(
    study: js.Study, wanted: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as found:
        study.select(**wanted)
    assert "\n" not in str(found.value)


def test_a_plan_is_saved_and_loaded(study: js.Study, tmp_path: Path) -> None:
    plan = study.select().plan
    plan.save(tmp_path / "plan.json")
    loaded = js.Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert loaded.known_context.layout == study.layout
    assert loaded.known_context.study == study.config


def test_refining_measures_and_the_verdict_follows(study: js.Study) -> None:
    before = {trial.number for trial in study.trials if trial.state == TrialState.COMPLETE}
    verdict = study.refine(seeds=2)
    more = [t for t in study.trials if t.state == TrialState.COMPLETE and t.number not in before]
    first = study.config.calibration.seed
    # the ladder's plans under the search's own seed, then all with two further ones
    assert {trial.user_attrs["seed"] for trial in more} == {first, first + 1, first + 2}
    assert verdict.sentence == study.verdict().sentence
    assert study.verdict().paid in (True, False)
    # the rows of the front are means over the seeds
    table = study.front()
    row = next(row for row in table.to_dict("records") if row["num_seeds"] == 3 and row["origin"] != "x")
    values = [
        t.values[1]
        for t in study.trials
        if t.state == TrialState.COMPLETE
        and t.user_attrs["digest"] == study.trials[row["trial"]].user_attrs["digest"]
    ]
    assert len(values) == 3
    assert row["model_bytes"] == statistics.fmean(values)


def test_an_enqueued_plan_is_measured_next(study: js.Study) -> None:
    plan = study.plan(0)
    modules = {
        name: choice.model_copy(update={"rank": choice.rank and 5}) for name, choice in plan.modules.items()
    }
    modules["model.layers.0.mlp.up_proj"] = js.ModuleChoice(format="int8", rank=5)
    asked = plan.model_copy(update={"modules": modules})
    study.enqueue(asked)
    study.optimize(0)
    last = next(t for t in study.trials if t.user_attrs.get("digest") == asked.digest)
    assert last.state == TrialState.COMPLETE


def test_comparing_named_strategies(study: js.Study) -> None:
    found = study.compare(["qlora", "lora"], seeds=2)
    assert {"qlora", "lora"} <= {row.name for row in found.rows}
    assert all(len(row.qualities) == 2 for row in found.rows)
