"""How trials end without a result, and workers before the study does."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from fixtures.counting import BASELINES, CountingRunner, resume, states
from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError, TrialFailed, TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


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
