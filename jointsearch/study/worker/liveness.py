"""Heartbeats of this worker, and the work of others whose hearts have stopped."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import optuna
from optuna.trial import FrozenTrial, TrialState

from jointsearch.study.full_runs import FullRun, RunState, write
from jointsearch.study.queue import give_back, is_retried
from jointsearch.study.records import FAILURE
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.heartbeats import last_heartbeats, record_heartbeat
from jointsearch.study.storage.internals import database_of
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.storage.outages import outlast, seconds_since_outage
from jointsearch.study.storage.writing import fail_stale
from jointsearch.study.study import JointStudy


class LostRuns:
    """Finds the runs of workers that are gone.

    A run is lost when this process has seen it unchanged for ``STALE_SECONDS`` by its own steady clock, as
    it is with trials; its heart beats in its record.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unchanged_since: dict[tuple[int, datetime | None], float] = {}

    def among(self, runs: dict[int, FullRun]) -> set[int]:
        """Trials of the lost ones."""
        now = self._clock()
        if seconds_since_outage() < 2 * heartbeats.HEARTBEAT_SECONDS:
            self._unchanged_since.clear()  # living workers could not beat while the database was away
        seen = [(trial, run.heartbeat) for trial, run in runs.items() if run.state is RunState.RUNNING]
        self._unchanged_since = {key: self._unchanged_since.get(key, now) for key in seen}
        return {
            trial
            for (trial, _), since in self._unchanged_since.items()
            if now - since > heartbeats.STALE_SECONDS
        }


class HeldRun:
    """A run that is this worker's, for as long as its heart beats."""

    def __init__(self, study: JointStudy, run: FullRun) -> None:
        self.run = run
        self.lost = False
        """Another worker has taken it over: this one was silent for too long."""
        self._study = study.optuna_study

    def at_step(self, step: int, num_steps: int) -> None:
        """Written at the next heartbeat."""
        self.run = self.run.model_copy(update={"step": step, "num_steps": num_steps})

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Heartbeats from a thread of its own that outlives an absence of the database."""
        ended = threading.Event()

        def keep_beating() -> None:
            while not self.lost and not ended.wait(heartbeats.HEARTBEAT_SECONDS):
                outlast(self._beat, ended.is_set)

        thread = threading.Thread(target=keep_beating, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self) -> None:
        alive = self.run.model_copy(update={"heartbeat": datetime.now(UTC)})
        self.lost = not write(self._study, alive)


@contextmanager
def beating(trial: optuna.Trial) -> Iterator[None]:
    """The trial's heartbeat, from a thread of its own that outlives an absence of the database."""
    counter = itertools.count()
    ended = threading.Event()

    def beat() -> None:
        record_heartbeat(trial, next(counter))

    def keep_beating() -> None:
        while not ended.wait(heartbeats.HEARTBEAT_SECONDS):
            outlast(beat, ended.is_set)

    outlast(beat)
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class LostTrials:
    """Finds the trials of workers that are gone, and puts their plans back into the queue.

    A trial is lost when this process has seen its heartbeat unchanged for ``STALE_SECONDS`` by its own
    steady clock. Optuna's ``fail_stale_trials`` compares with the database's wall clock instead: it fails
    living trials when that clock jumps, and never one whose worker went before the first heartbeat.
    """

    def __init__(self, study: optuna.Study, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._clock = clock
        self._unchanged_since: dict[tuple[int, datetime | None], float] = {}

    def recover(self) -> None:
        """Look for lost trials, and give those back that are known to be lost by now.

        Behind a proxy nothing is done: the proxy does it for all its workers.
        """
        if database_of(self._study) is None:
            return
        if seconds_since_outage() < 2 * heartbeats.HEARTBEAT_SECONDS:
            self._unchanged_since.clear()  # living workers could not beat while the database was away
            return
        self._fail_silent()
        trials = self._study.get_trials(deepcopy=False)
        if any(_is_lost(trials, trial) for trial in trials):
            with study_lock(self._study):
                trials = self._study.get_trials(deepcopy=False)
                for trial in trials:
                    if _is_lost(trials, trial):
                        give_back(self._study, trial)

    def _fail_silent(self) -> None:
        now = self._clock()
        seen = [(trial, heartbeat.at) for trial, heartbeat in last_heartbeats(self._study).items()]
        self._unchanged_since = {key: self._unchanged_since.get(key, now) for key in seen}
        for (trial, _), since in self._unchanged_since.items():
            if now - since > heartbeats.STALE_SECONDS:
                fail_stale(self._study, trial)


def _is_lost(trials: list[FrozenTrial], trial: FrozenTrial) -> bool:
    """Failed without a word, and not in the queue again."""
    return (
        trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs and not is_retried(trials, trial)
    )
