"""What a worker does with the trials of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from optuna.storages import RDBStorage
from optuna.trial import TrialState

from fixtures.counting import BASELINES, CountingRunner, resume, states
from jointsearch.config.study import StudyConfig
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.attributes import COPY_OF
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


def test_baselines_run_first_and_are_labelled(create: Create, layout: ModelLayout) -> None:
    study = create()
    runner = CountingRunner(layout)
    Worker(study, runner).run()
    records = study.records()
    assert [trial.origin.name for trial in records.trials] == BASELINES + [""] * 6
    assert runner.digests[:4] == [trial.digest for trial in records.trials[:4]]
    for trial, (bits, rank) in zip(records.trials, [(4, 0), (4, 4), (16, 0), (16, 4)], strict=False):
        choices = trial.plan.modules
        assert {choice.bits for choice in choices.values()} == {bits}
        assert {choice.rank for name, choice in choices.items() if name != "embed"} == {rank}


def test_every_trial_keeps_its_plan_and_measurement(create: Create, layout: ModelLayout) -> None:
    study = create()
    Worker(study, FakeRunner(layout)).run()
    records = study.records()
    assert len(records.complete) == len(records.trials) == 10
    for trial in records.complete:
        assert trial.plan == study.space.plan(study.optuna_study.trials[trial.number].params)
        assert trial.digest == trial.plan.digest
        expected = FakeRunner(layout).run(trial.plan, Trial())
        assert trial.values == {
            "loss": expected.metrics["loss"],
            "model_bytes": plan_cost(layout, trial.plan).model_bytes,
        }
        assert trial.measurement == expected


def test_runs_get_the_calibration_seed(create: Create, layout: ModelLayout) -> None:
    study = create(calibration={"seed": 17})
    runner = CountingRunner(layout)
    Worker(study, runner).run()
    assert {asked.seed for asked in runner.asked} == {17}
    assert {trial.measurement.seed for trial in study.records().complete} == {17}


def test_a_study_without_enqueued_plans_begins_with_the_sampler(create: Create, layout: ModelLayout) -> None:
    study = create(search_space={"enqueue": []})
    assert study.records().trials == ()
    Worker(study, FakeRunner(layout)).run()
    assert [trial.origin.name for trial in study.records().complete] == [""] * 10


def test_a_study_resumes_to_a_larger_number_of_trials(
    create: Create, configure: Configure, storage: RDBStorage, layout: ModelLayout
) -> None:
    create(search={"trials": 6})
    runner = CountingRunner(layout)
    Worker(resume(storage, configure(search={"trials": 6})), runner).run()
    first = list(runner.digests)
    larger = resume(storage, configure(search={"trials": 15}))
    assert len(larger.records().complete) == 6

    Worker(larger, runner).run()
    records = larger.records()
    assert len(records.complete) == len(records.trials) == 15
    assert len(first) > 3
    assert max(Counter(runner.digests).values()) == 1
    assert runner.digests[: len(first)] == first

    ran = len(runner.digests)
    Worker(larger, runner).run()  # full: nothing more to do
    assert len(runner.digests) == ran
    assert len(larger.records().trials) == 15


def test_fewer_trials_than_baselines(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 3})
    Worker(study, FakeRunner(layout)).run()
    assert states(study) == {TrialState.COMPLETE: 3, TrialState.WAITING: 1}


def test_equal_plans_are_measured_once(create: Create, layout: ModelLayout) -> None:
    # 2 bits of one group and nothing else: two plans in all
    study = create(
        search_space={"include": ["layers.0.mlp.*"], "ranks": [4], "enqueue": []}, search={"trials": 8}
    )
    runner = CountingRunner(layout)
    Worker(study, runner).run()
    records = study.records()
    assert len(records.complete) == 8
    assert len(runner.digests) == len(set(runner.digests)) == 2
    first = {
        digest: next(t.number for t in records.complete if t.digest == digest) for digest in runner.digests
    }
    copies = {
        t.number: t.frozen.user_attrs[COPY_OF] for t in records.complete if COPY_OF in t.frozen.user_attrs
    }
    assert copies == {t.number: first[t.digest] for t in records.complete if t.number not in first.values()}
    for trial in records.complete:
        assert trial.values == records.trials[first[trial.digest]].values
        assert trial.measurement == records.trials[first[trial.digest]].measurement


def test_the_listener_sees_every_trial_run_and_end(create: Create, layout: ModelLayout) -> None:
    seen: list[tuple[int, int]] = []

    def listen(records: StudyRecords) -> None:
        seen.append((len(records.complete), len(records.running)))

    Worker(create(search={"trials": 3}), FakeRunner(layout), listen).run()
    assert list(dict.fromkeys(seen)) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]


def test_objectives_that_grow_are_maximized(create: Create, layout: ModelLayout) -> None:
    @dataclass
    class Accurate:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            faked = FakeRunner(layout).run(plan, trial)
            return faked.model_copy(update={"metrics": {"accuracy": 1 / faked.metrics["loss"]}})

    study = create(objectives=["accuracy", "model_bytes"])
    Worker(study, Accurate()).run()
    records = study.records()
    assert records.best is not None
    best = max(trial.values["accuracy"] for trial in records.complete)
    assert records.best.values["accuracy"] == best
    assert records.front[-1].values["accuracy"] == best
    assert {trial.number for trial in records.front} == {t.number for t in study.optuna_study.best_trials} - {
        t.number for t in records.complete if COPY_OF in t.frozen.user_attrs
    }
