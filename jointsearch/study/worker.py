"""The worker: asks Optuna for a trial, has its plan run, tells the result, until the study is full."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import optuna
from optuna.storages import fail_stale_trials
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from jointsearch.errors import TrialFailed, TrialInterrupted
from jointsearch.runner import Budget, Measurement, Runner
from jointsearch.search.experimental import experimental_optuna
from jointsearch.search.samplers import build_sampler, distributions
from jointsearch.study.records import (
    COPY_OF,
    DIGEST,
    FAILURE,
    MEASUREMENT,
    PLAN,
    StudyRecords,
)
from jointsearch.study.storage import requeue
from jointsearch.study.studies import JointStudy

POLL_SECONDS = 1.0

Listener = Callable[[StudyRecords], None]


class Worker:
    """Runs trials of one study in this process, one at a time."""

    def __init__(self, study: JointStudy, runner: Runner, listener: Listener = lambda records: None) -> None:
        self._study = study
        self._runner = runner
        self._listener = listener
        self._stop = threading.Event()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Give the running trial back to the queue and end ``run`` at the next step."""
        self._stop.set()

    def run(self) -> None:
        """Run trials until the study has as many as its config says, or until ``stop``.

        Trials of other workers are waited for: one that is lost with its worker comes back.
        """
        study = self._study.optuna_study
        config = self._study.config
        records = self._study.records()
        study.sampler = build_sampler(
            config.search,
            num_enqueued=len({trial.label for trial in records.trials if trial.label}),
            num_existing=len(records.trials),
        )
        while not self.stopping:
            with experimental_optuna():
                fail_stale_trials(study)
            records = self._study.records()
            self._listener(records)
            if records.num_finished >= config.search.trials:
                return
            if records.num_finished + len(records.running) >= config.search.trials:
                self._stop.wait(POLL_SECONDS)
                continue
            self._run_one(records)
        self._listener(self._study.records())

    def _run_one(self, records: StudyRecords) -> None:
        study = self._study.optuna_study
        with experimental_optuna():
            trial = study.ask(distributions(self._study.space))
        with get_heartbeat_thread(trial._trial_id, study._storage):
            plan = self._study.space.plan(trial.params)
            if trial.user_attrs.get(DIGEST) != plan.digest:
                trial.set_user_attr(PLAN, plan.model_dump(mode="json"))
                trial.set_user_attr(DIGEST, plan.digest)
            self._listener(self._study.records())
            budget = Budget(seed=self._study.config.calibration.seed, should_stop=lambda: self.stopping)
            try:
                # The same plan with the same seed gives the same numbers: it need not run twice.
                twin = next((t for t in records.complete if t.digest == plan.digest), None)
                if twin is not None:
                    trial.set_user_attr(COPY_OF, twin.number)
                    measurement = twin.measurement
                else:
                    measurement = self._runner.run(plan, budget)
                self._complete(trial, measurement)
            except TrialInterrupted as interruption:
                self._fail(trial, interruption, again=True)
            except TrialFailed as failure:
                self._fail(trial, failure)
            except BaseException as error:
                # a bug or a second Ctrl-C: not the trial's fault, so the queue keeps its plan
                self._fail(trial, error, again=True)
                raise

    def _complete(self, trial: optuna.Trial, measurement: Measurement) -> None:
        values = {name: measurement.value(name) for name in self._study.config.objectives}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrialFailed(f"diverged: {name} is {value}")
        trial.set_user_attr(MEASUREMENT, measurement.model_dump(mode="json"))
        self._study.optuna_study.tell(trial, list(values.values()))

    def _fail(self, trial: optuna.Trial, reason: BaseException, *, again: bool = False) -> None:
        study = self._study.optuna_study
        trial.set_user_attr(FAILURE, str(reason) or type(reason).__name__)
        frozen = study.tell(trial, state=TrialState.FAIL)
        if again:
            requeue(study, frozen)


@contextmanager
def stop_on_signals(worker: Worker) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the worker after its step; a second Ctrl-C leaves at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if worker.stopping:
            raise KeyboardInterrupt
        worker.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
