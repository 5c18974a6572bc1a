from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError, TrialFailed, TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.attributes import COPY_OF
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import find_study
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]

BASELINES = [f"uniform {bits}-bit rank {rank}" for bits in (4, 16) for rank in (0, 4)]


@dataclass
class CountingRunner:
    """The fake runner, with a list of what ran, and something that happens before some runs."""

    layout: ModelLayout
    before: Callable[[int, Trial], None] = lambda number, trial: None
    """Called with how many runs there have been."""
    digests: list[str] = field(default_factory=list)
    asked: list[Trial] = field(default_factory=list)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self.digests.append(plan.digest)
        self.asked.append(trial)
        self.before(len(self.digests), trial)
        return FakeRunner(self.layout).run(plan, trial)


def states(study: StoredStudy) -> Counter[TrialState]:
    return Counter(trial.state for trial in study.records().trials)


def resume(storage: RDBStorage, config: StudyConfig) -> StoredStudy:
    """The stored study under a config of the same identity, as the command line does it."""
    stored = find_study(storage, config.name)
    assert stored is not None
    assert stored.config.digest == config.digest
    return StoredStudy(stored.optuna_study, config)


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


def test_a_failed_trial_says_why_and_the_study_goes_on(create: Create, layout: ModelLayout) -> None:
    def fail(number: int, trial: Trial) -> None:
        if number in (2, 5):
            raise TrialFailed(f"the loss is not finite after step {number}")

    study = create()
    runner = CountingRunner(layout, before=fail)
    Worker(study, runner).run()
    records = study.records()
    assert [trial.failure for trial in records.failed] == [
        "the loss is not finite after step 2",
        "the loss is not finite after step 5",
    ]
    assert records.failed[0].number == 1
    assert states(study) == {TrialState.COMPLETE: 8, TrialState.FAIL: 2}
    assert records.num_finished == 10
    assert runner.digests[1] == records.failed[0].digest


def test_an_error_of_the_runner_stops_the_worker_and_keeps_the_plan(
    create: Create, layout: ModelLayout
) -> None:
    def break_down(number: int, trial: Trial) -> None:
        if number == 3:
            raise RuntimeError("a bug")

    study = create()
    runner = CountingRunner(layout, before=break_down)
    with pytest.raises(RuntimeError, match="a bug"):
        Worker(study, runner).run()
    records = study.records()
    assert states(study) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1, TrialState.WAITING: 2}
    assert records.failed == ()  # it is to run again
    assert records.num_finished == 2
    again = records.trials[-1]
    assert again.frozen.user_attrs[RETRY_OF] == 2
    assert (again.origin.name, again.digest) == (BASELINES[2], runner.digests[2])

    Worker(study, runner).run()
    records = study.records()
    assert len(records.complete) == 10
    assert records.failed == ()
    assert Counter(trial.origin.name for trial in records.baselines) == Counter(BASELINES)
    assert Counter(runner.digests)[again.digest] == 2


def test_stop_gives_the_running_trial_back(
    create: Create, configure: Configure, storage: RDBStorage, layout: ModelLayout
) -> None:
    running = threading.Event()

    def wait_for_stop(number: int, trial: Trial) -> None:
        if number == 3:
            running.set()
            while not trial.should_stop():
                time.sleep(0.005)
            raise TrialInterrupted("stopped")

    study = create()
    runner = CountingRunner(layout, before=wait_for_stop)
    worker = Worker(study, runner)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    assert running.wait(240)
    assert [trial.number for trial in study.records().running] == [2]
    worker.stop()
    thread.join(240)
    assert not thread.is_alive()
    assert worker.stopping

    records = study.records()
    finished = [trial.frozen for trial in records.complete]
    assert [trial.number for trial in finished] == [0, 1]
    assert records.running == records.failed == ()
    assert records.waiting[-1].digest == runner.digests[2]

    resumed = resume(storage, configure())
    Worker(resumed, runner).run()
    records = resumed.records()
    assert len(records.complete) == records.num_finished == 10
    assert records.waiting == records.running == records.failed == ()
    assert [records.trials[trial.number].frozen.values for trial in finished] == [t.values for t in finished]
    assert Counter(trial.origin.name for trial in records.baselines) == Counter(BASELINES)
    assert {digest: count for digest, count in Counter(runner.digests).items() if count > 1} == {
        runner.digests[2]: 2
    }


def test_a_stopped_worker_runs_nothing(create: Create, layout: ModelLayout) -> None:
    study = create()
    runner = CountingRunner(layout)
    worker = Worker(study, runner)
    worker.stop()
    worker.run()
    assert runner.digests == []
    assert states(study) == {TrialState.WAITING: 4}


def test_signals_stop_the_worker_and_the_second_leaves_at_once(create: Create, layout: ModelLayout) -> None:
    seen: list[bool] = []

    def interrupt(number: int, trial: Trial) -> None:
        if number == 2:
            signal.raise_signal(signal.SIGTERM)
            seen.append(trial.should_stop())
            signal.raise_signal(signal.SIGINT)

    study = create()
    worker = Worker(study, CountingRunner(layout, before=interrupt))
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals(worker), pytest.raises(KeyboardInterrupt):
        worker.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert seen == [True]
    assert states(study) == {TrialState.COMPLETE: 1, TrialState.FAIL: 1, TrialState.WAITING: 3}
    assert study.records().waiting[-1].origin.name == BASELINES[1]


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


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_a_failure_with_a_reason(
    create: Create, layout: ModelLayout, loss: float
) -> None:
    @dataclass
    class Diverges:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            return FakeRunner(layout).run(plan, trial).model_copy(update={"metrics": {"loss": loss}})

    study = create(search={"trials": 2})
    Worker(study, Diverges()).run()
    records = study.records()
    assert len(records.failed) == 2
    assert all(trial.failure for trial in records.failed)


def test_a_measurement_without_the_objective_leaves_no_trial_running(
    create: Create, layout: ModelLayout
) -> None:
    class LossAlone:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            return Measurement(metrics={"loss": 2.0}, model_bytes=1)

    study = create(objectives=["accuracy", "model_bytes"])
    with pytest.raises(StudyError, match="no 'accuracy'"):
        Worker(study, LossAlone()).run()
    assert study.records().running == ()
