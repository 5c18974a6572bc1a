"""Studies whose trials a runner of a person's own runs."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

import jointsearch as js
from jointsearch.errors import StudyError, StudyFileError


class OwnMetric(js.Runner):
    """Says a metric of its own and nothing else."""

    def layout(self, config: js.StudyConfig) -> js.ModelLayout:
        return js.testing.small_layout()

    def run(self, plan: js.Plan, trial: js.Trial) -> js.Measurement:
        return js.Measurement(metrics={"own_score": float(sum(plan.ranks.values()))})


def test_a_metric_of_ones_own_is_read_without_its_code(url: str) -> None:
    from jointsearch.plan.cost import plan_cost

    study = js.create_study(
        runner=OwnMetric(),
        storage=url,
        name="own",
        objectives=[js.Objective("own_score", "maximize"), "model_bytes"],
    )
    study.optimize(12)
    read = js.load_study("own", url)
    assert read.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    best = read.front().iloc[-1]
    assert best["own_score"] == max(t.values[0] for t in read.trials if t.values)
    plan = read.plan(int(best["trial"]))
    assert best["model_bytes"] == plan_cost(read.layout, plan).model_bytes
    with pytest.raises(StudyError, match=r"run by its own Python code.*load_study"):
        read.optimize(1)
    with pytest.raises(StudyError, match="own Python code"):
        js.train(plan, url.removeprefix("sqlite:///") + ".run")


def test_one_name_has_one_direction(url: str) -> None:
    with pytest.raises(StudyFileError, match="'accuracy' must be maximized"):
        js.create_study(
            runner=OwnMetric(),
            storage=url,
            objectives=[js.Objective("accuracy", "minimize"), "model_bytes"],
        )


def test_a_runner_without_a_layout_needs_a_model(url: str) -> None:
    class NoLayout(js.Runner):
        def run(self, plan: js.Plan, trial: js.Trial) -> js.Measurement:
            raise AssertionError

    with pytest.raises(StudyError, match=r"NoLayout.*model: \{id"):
        js.create_study({"name": "s"}, url, runner=NoLayout())
    with pytest.raises(TypeError, match="abstract"):
        js.Runner()  # type: ignore[abstract]


def test_commands_read_a_study_of_ones_own_runner(url: str, command: Any) -> None:
    study = js.create_study(
        runner=OwnMetric(),
        storage=url,
        name="own",
        objectives=[js.Objective("own_score", "maximize"), "model_bytes"],
    )
    study.optimize(6)
    assert "own_score" in command("front", "own", "--storage", url).stdout
    refused = command("worker", "own", "--storage", url, status=2).stderr
    assert "is run by its own Python code" in refused
    assert refused.count("\n") == 1
