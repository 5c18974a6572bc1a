"""What the model of a study foretells: its optimum, when to stop, and what a probe adds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError
from jointsearch.plan.layout import ModelLayout
from jointsearch.runner import Trial
from jointsearch.search.attributes import PROBE, stored_probe
from jointsearch.search.probe import Probe, ScoredPlan
from jointsearch.study.analysis.prediction import (
    Convergence,
    fit_surrogate,
    measure_optimum,
    predict_front,
    probe_correlation,
)
from jointsearch.study.attributes import CONVERGED
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]

STOP: dict[str, Any] = {"when": "converged", "gain": 0.01, "trials": 5, "after": 12}


def test_the_predicted_optimum_is_measured(create: Create, layout: ModelLayout) -> None:
    study = create(search={"sampler": "additive", "trials": 14})
    with pytest.raises(StudyError, match="a prediction needs 3 measured plans, but study 'small' has 0"):
        predict_front(study)
    Worker(study, FakeRunner(layout)).run()
    budget = 60_000
    point = measure_optimum(study, budget)
    assert point.model_bytes <= budget
    Worker(study, FakeRunner(layout)).run()
    last = study.records().trials[-1]
    assert last.requested
    assert last.plan == study.space.plan(point.values)
    assert last.measurement.model_bytes == point.model_bytes
    assert point.low - 0.05 <= last.values["loss"] <= point.high + 0.05
    # of all plans that were measured none of so few bytes is better
    assert last.values["loss"] == min(
        trial.values["loss"] for trial in study.records().complete if trial.values["model_bytes"] <= budget
    )


def test_a_converged_study_ends_before_its_trials(
    create: Create, configure: Configure, layout: ModelLayout
) -> None:
    study = create(search={"sampler": "additive", "trials": 60, "stop": STOP})
    Worker(study, FakeRunner(layout)).run()
    records = study.records()
    num = len(records.complete)
    assert 12 <= num < 60
    assert study.converged()
    assert study.optuna_study.user_attrs[CONVERGED] == num
    assert study.num_left(records) == 0
    Worker(study, FakeRunner(layout)).run()  # another worker stops at once
    assert len(study.records().complete) == num

    request(study, study.space.plan(study.space.uniform("nf4", 4)), seed=5)
    assert study.num_left(study.records()) == 1
    Worker(study, FakeRunner(layout)).run()  # what a person asks for is measured all the same
    assert len(study.records().complete) == num + 1

    # without stop, or with another one, the search goes on
    going = study.with_config(configure(search={"sampler": "additive", "trials": num + 3}))
    assert going.config.digest == study.config.digest
    assert not going.converged()
    Worker(going, FakeRunner(layout)).run()
    assert sum(trial.searched for trial in going.records().complete) == num + 3


def test_a_search_that_gains_does_not_stop(create: Create, layout: ModelLayout) -> None:
    study = create(
        search={"sampler": "random", "trials": 16, "stop": {**STOP, "gain": 1e-9, "after": 4}},
        search_space={"bits": [4, 8, 16], "ranks": [0, 1, 2, 4, 8, 16], "enqueue": []},
        name="gains",
    )
    assert not Convergence(study).reached(study.records())  # baselines wait
    study = create(
        search={"sampler": "random", "trials": 16, "stop": {**STOP, "gain": 1e-9, "after": 4}},
        search_space={"bits": [4, 8, 16], "ranks": [0, 1, 2, 4, 8, 16], "enqueue": []},
    )
    Worker(study, FakeRunner(layout)).run()
    assert len(study.records().complete) == 16
    assert not study.converged()


def test_the_model_of_a_study_has_all_its_trials(create: Create, layout: ModelLayout) -> None:
    study = create()
    Worker(study, FakeRunner(layout)).run()
    surrogate = fit_surrogate(study)
    assert len(surrogate.observed.values) == len(study.records().measured)


def test_a_probe_is_compared_with_real_trials(create: Create, layout: ModelLayout) -> None:
    study = create(search={"sampler": "random", "trials": 20}, search_space={"ranks": [0, 2, 4, 8]})
    assert probe_correlation(study) is None
    rng = random.Random(0)
    values = [study.space.sample(rng) for _ in range(100)]
    losses = [FakeRunner(layout).run(study.space.plan(v), Trial()).metrics["loss"] for v in values]

    def store(sign: int) -> None:
        plans = tuple(ScoredPlan(values=v, score=sign * x) for v, x in zip(values, losses, strict=True))
        probe = Probe(kind="weight-sharing", plans=plans)
        study.optuna_study.set_user_attr(PROBE, probe.model_dump(mode="json"))

    store(1)
    assert probe_correlation(study) is None  # nothing is measured
    Worker(study, FakeRunner(layout)).run()
    found = probe_correlation(study)
    assert found is not None
    assert found > 0.9
    store(-1)
    assert probe_correlation(study) == pytest.approx(-found, abs=0.1)


@pytest.mark.parametrize("variant", ["lora", "dora"])  # weight-sharing has no nested ranks with DoRA
def test_sensitivities_as_a_probe(create: Create, layout: ModelLayout, variant: str) -> None:
    study = create(
        search={"sampler": "additive", "probe": "sensitivity", "trials": 20},
        search_space={"ranks": [0, 2, 4, 8]},
        lora={"variant": variant},
    )
    Worker(study, FakeRunner(layout)).run()
    probe = stored_probe(study.optuna_study)
    assert probe is not None
    assert (probe.kind, probe.plans) == ("sensitivity", ())
    measured = FakeRunner().sensitivities(layout, 8).modules
    for group in study.space.groups:
        scores = probe.groups[group.name]
        errors = [
            sum(measured[m.name].output_error.get(name, 0) for m in group.modules) for name in group.formats
        ]
        assert scores.bits == pytest.approx(errors)
        fisher = sum(measured[m.name].fisher * m.num_weights for m in group.modules if m.adaptable)
        shares = [math.log(1 + rank) / math.log(9) for rank in group.ranks] if group.ranks[1:] else [0]
        assert scores.ranks == pytest.approx([-fisher * share for share in shares])
    found = probe_correlation(study)
    assert found is not None
    assert found > 0.5
