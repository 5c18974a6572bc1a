from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from jointsearch.errors import TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.attributes import stored_probe
from jointsearch.space import SearchSpace
from jointsearch.study.storage.locks import try_study_lock
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import find_study
from jointsearch.study.worker.probing import MAX_SCORED, make_probe
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


@dataclass
class Clock:
    """Time that passes as the runner says."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("jointsearch.study.worker.probing.time", clock)
    return clock


@dataclass
class ProbingRunner:
    """The fake runner, which trains what plans share for 10 seconds."""

    layout: ModelLayout
    clock: Clock = field(default_factory=Clock)
    seconds_per_score: float = 0.05
    num_steps: list[int] = field(default_factory=list)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        return FakeRunner(self.layout).run(plan, trial)

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Callable[[Plan], float]:
        if trial.should_stop():
            raise TrialInterrupted("stopped")
        self.num_steps.append(steps)
        self.clock.now += 10

        def score(plan: Plan) -> float:
            self.clock.now += self.seconds_per_score
            return self.run(plan, trial).metrics["loss"]

        return score


@pytest.fixture
def study(create: Create) -> StoredStudy:
    return create(
        search={"sampler": "additive", "trials": 14, "probe": "weight-sharing"}, calibration={"steps": 7}
    )


def test_it_is_made_once_and_kept(study: StoredStudy, layout: ModelLayout, clock: Clock) -> None:
    runner = ProbingRunner(layout, clock)
    Worker(study, runner, max_trials=1).run()
    assert runner.num_steps == [3 * 7]
    again = find_study(study.optuna_study._storage, study.name)
    assert again is not None
    probe = stored_probe(again.optuna_study)
    assert probe is not None
    assert (probe.kind, probe.seconds) == ("weight-sharing", pytest.approx(10 + MAX_SCORED * 0.05))
    plans = [study.space.plan(scored.values) for scored in probe.plans]
    assert len(plans) == MAX_SCORED
    assert [scored.score for scored in probe.plans] == pytest.approx(
        [FakeRunner(layout).run(plan, Trial()).metrics["loss"] for plan in plans]
    )
    digests = {plan.digest for plan in plans}
    assert {baseline.plan.digest for baseline in study.space.baselines()} <= digests
    Worker(again, runner).run()
    assert runner.num_steps == [3 * 7]
    assert len(again.records().complete) == 14


def test_scoring_takes_no_longer_than_training_did(
    study: StoredStudy, layout: ModelLayout, clock: Clock
) -> None:
    make_probe(study, ProbingRunner(layout, clock, seconds_per_score=0.9), lambda: False)
    probe = stored_probe(study.optuna_study)
    assert probe is not None
    assert len(probe.plans) == 12  # after 11 of them 9.9 seconds have gone


@pytest.mark.parametrize(
    "settings",
    [
        {"search": {"sampler": "additive", "probe": "none"}},
        {"search": {"sampler": "nsga2"}},
        {"search": {"sampler": "additive"}, "lora": {"variant": "dora"}},
        {"search": {"sampler": "additive"}, "lora": {"init": "pissa"}, "search_space": {"bits": [16]}},
    ],
)
def test_studies_that_do_without(create: Create, layout: ModelLayout, settings: dict[str, Any]) -> None:
    study, runner = create(**settings), ProbingRunner(layout)
    make_probe(study, runner, lambda: False)
    assert (runner.num_steps, stored_probe(study.optuna_study)) == ([], None)


def test_a_runner_that_cannot_is_not_asked(study: StoredStudy, layout: ModelLayout) -> None:
    make_probe(study, FakeRunner(layout), lambda: False)
    assert stored_probe(study.optuna_study) is None


def test_while_one_worker_probes_the_others_train(study: StoredStudy, layout: ModelLayout) -> None:
    runner = ProbingRunner(layout)
    with try_study_lock(study.optuna_study, "probe") as mine:
        assert mine
        Worker(study, runner, max_trials=2).run()
    assert runner.num_steps == []
    assert len(study.records().complete) == 2


def test_an_interrupted_probe_is_made_by_the_next_worker(
    study: StoredStudy, layout: ModelLayout, clock: Clock
) -> None:
    runner = ProbingRunner(layout, clock)
    make_probe(study, runner, lambda: True)
    assert stored_probe(study.optuna_study) is None
    asked = iter([False] * 5)
    make_probe(study, runner, lambda: next(asked, True))  # stopped while it scores
    assert (runner.num_steps, stored_probe(study.optuna_study)) == ([3 * 7], None)
    make_probe(study, runner, lambda: False)
    assert stored_probe(study.optuna_study) is not None
