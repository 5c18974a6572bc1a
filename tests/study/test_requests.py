"""Plans that a person asks for, repeats with other seeds, and copies of what is known."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]
Launch = Callable[..., subprocess.Popen[str]]
WaitFor = Callable[..., None]
Meet = Callable[..., list[subprocess.Popen[str]]]


@dataclass
class Recorder:
    """The noisy fake runner, with a list of what ran."""

    layout: ModelLayout
    ran: list[tuple[str, int]] = field(default_factory=list)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self.ran.append((plan.digest, trial.seed))
        return FakeRunner(self.layout, noise=0.1).run(plan, trial)


def outside(study: StoredStudy) -> Plan:
    """A plan that the space does not have: one module alone is at 8 bits."""
    plan = study.space.plan({})
    one = plan.modules["layers.0.attn.q"].model_copy(update={"format": "int8"})
    return plan.model_copy(update={"modules": {**plan.modules, "layers.0.attn.q": one}})


def test_requests_come_first_and_on_top(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 5}, calibration={"seed": 7})
    values = {name: int("mlp" in name) for name in study.space.parameters}
    inside = study.space.plan(values)
    foreign = outside(study)
    request(study, inside, Origin(kind="strategy", name="mine"), seed=3)
    request(study, foreign)
    runner = Recorder(layout)
    Worker(study, runner).run()
    assert runner.ran[:2] == [(inside.digest, 3), (foreign.digest, 7)]
    records = study.records()
    assert len(records.complete) == len(records.trials) == 5 + 2
    first, second = (trial for trial in records.trials if trial.requested)
    assert (first.plan, first.origin.name, first.seed) == (inside, "mine", 3)
    assert study.optuna_study.trials[first.number].params == values
    assert (second.plan, second.origin.name, second.seed) == (foreign, "", 7)
    assert study.optuna_study.trials[second.number].params == {}
    assert second.values["loss"] == FakeRunner(layout, 0.1).run(foreign, Trial(7)).metrics["loss"]
    assert "mine" in [point.origin.name for point in records.baselines]


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_samplers_go_on_beside_plans_outside_of_their_space(
    create: Create, layout: ModelLayout, sampler: str
) -> None:
    study = create(search={"trials": 16, "sampler": sampler})
    request(study, outside(study))
    Worker(study, FakeRunner(layout)).run()
    assert len(study.records().complete) == 17


def test_a_full_study_runs_what_is_asked_for(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 4})
    runner = Recorder(layout)
    Worker(study, runner).run()
    assert len(runner.ran) == 4
    plan = study.records().complete[0].plan
    for seed in (1, 2):
        request(study, plan, seed=seed)
    Worker(study, runner).run()
    assert runner.ran[4:] == [(plan.digest, 1), (plan.digest, 2)]
    point = study.records().measured[0]
    assert [trial.seed for trial in point.trials] == [0, 1, 2]
    losses = [FakeRunner(layout, 0.1).run(plan, Trial(seed)).metrics["loss"] for seed in range(3)]
    assert point.values["loss"] == pytest.approx(sum(losses) / 3, rel=1e-12)


def test_a_plan_that_is_proposed_again_gets_the_next_seed_and_then_copies(
    create: Create, layout: ModelLayout
) -> None:
    # one group with two bits and nothing else: two plans in all
    study = create(
        search_space={"include": ["layers.0.mlp.*"], "ranks": [4], "enqueue": []},
        search={"trials": 14, "repeats": 3},
        calibration={"seed": 5},
    )
    runner = Recorder(layout)
    Worker(study, runner).run()
    records = study.records()
    by_plan = Counter(trial.digest for trial in records.complete)
    assert min(by_plan.values()) > 3, "each plan must have been proposed more often than it is repeated"
    assert Counter(runner.ran) == {(digest, seed): 1 for digest in by_plan for seed in (5, 6, 7)}
    for digest in by_plan:
        trials = [trial for trial in records.complete if trial.digest == digest]
        assert [trial.seed for trial in trials] == [5, 6, 7] + [5] * (len(trials) - 3)
        assert [trial.copy_of for trial in trials] == [None] * 3 + [trials[0].number] * (len(trials) - 3)
        assert {tuple(trial.values.items()) for trial in trials[3:]} == {tuple(trials[0].values.items())}


@pytest.fixture
def twins(create: Create) -> StoredStudy:
    """A study with the same plan and seed asked for twice, and one trial beside."""
    study = create(search={"trials": 1}, search_space={"enqueue": []})
    for _ in range(2):
        request(study, outside(study), seed=1)
    return study


def ran(log: Path) -> int:
    return log.read_text().count("ran ") if log.exists() else 0


@pytest.fixture
def meet(twins: StoredStudy, url: str, launch: Launch, wait_for: WaitFor, gate: Any) -> Meet:
    """Two workers, the second of which waits for what the first has begun and holds at the gate."""

    def met(*first_options: str) -> list[subprocess.Popen[str]]:
        first = launch("work", url, twins.name, "--gate", gate.folder, *first_options, log="first")
        wait_for(lambda: [trial.seed for trial in twins.records().running] == [1])
        second = launch("work", url, twins.name, log="second")
        wait_for(lambda: [trial.copy_of for trial in twins.records().running] == [None, 0])
        return [first, second]

    return met


def test_two_processes_measure_the_same_once(
    twins: StoredStudy, meet: Meet, gate: Any, tmp_path: Path
) -> None:
    processes = meet()
    gate.open()
    assert [process.wait() for process in processes] == [0, 0], (tmp_path / "second").read_text()
    original, copy, _ = twins.records().complete
    assert (original.copy_of, copy.copy_of) == (None, 0)
    assert copy.measurement == original.measurement
    assert original.worker != copy.worker
    assert ran(tmp_path / "first") + ran(tmp_path / "second") == 2  # with the trial beside


def test_a_process_takes_over_where_the_first_fails(
    twins: StoredStudy, meet: Meet, gate: Any, tmp_path: Path
) -> None:
    processes = meet("--fail")
    gate.open()
    assert [process.wait() for process in processes] == [0, 0], (tmp_path / "second").read_text()
    records = twins.records()
    assert [(trial.number, trial.failure) for trial in records.failed] == [(0, "no measurement today")]
    assert [(trial.number, trial.copy_of) for trial in records.complete] == [(1, None), (2, None)]
    assert ran(tmp_path / "second") == 2


@pytest.mark.slow
@pytest.mark.alone
def test_a_process_takes_over_where_the_first_is_killed(
    twins: StoredStudy, meet: Meet, tmp_path: Path
) -> None:
    first, second = meet()
    first.send_signal(signal.SIGKILL)
    assert second.wait() == 0, (tmp_path / "second").read_text()
    records = twins.records()
    assert records.trials[0].state == TrialState.FAIL
    assert records.failed == ()
    measured = [trial for trial in records.complete if trial.requested]
    assert [trial.seed for trial in measured] == [1, 1]
    assert measured[0].measurement == measured[1].measurement
    assert sorted(trial.copy_of is None for trial in measured) == [False, True]
    assert ran(tmp_path / "second") == 2
