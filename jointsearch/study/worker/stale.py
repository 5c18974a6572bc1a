"""Finds the work of workers that are gone: their trials go back into the queue, their full runs to others.

Work is stale when this process has seen its heartbeat unchanged for ``STALE_SECONDS`` by its own steady
clock. Optuna's ``fail_stale_trials`` compares with the database's wall clock instead: it fails living trials
when that clock jumps, and never one whose worker went before the first heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import optuna
from optuna.trial import FrozenTrial, TrialState

from jointsearch.search.attributes import FAILURE
from jointsearch.study.full_runs import FullRun, RunState
from jointsearch.study.queue import is_retried, requeue
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.heartbeats import last_heartbeats
from jointsearch.study.storage.internals import database_of
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.storage.outages import seconds_since_outage
from jointsearch.study.storage.writing import fail_stale


class Unchanged:
    """Remembers since when each heartbeat has been the same."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[tuple[int, datetime | None], float] = {}

    def stale(self, last: Mapping[int, datetime | None]) -> set[int]:
        """Whose heartbeat is stale, of the last one of each."""
        now = self._clock()
        self._since = {key: self._since.get(key, now) for key in last.items()}
        return {who for (who, _), since in self._since.items() if now - since > heartbeats.STALE_SECONDS}

    def forget(self) -> None:
        self._since.clear()


class StaleTrials:
    """Finds stale trials of a study, and puts their plans back into the queue."""

    def __init__(self, study: optuna.Study, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._unchanged = Unchanged(clock)

    def recover(self) -> None:
        """Look at all heartbeats, and put what is known to be stale by now back into the queue.

        Behind a proxy nothing is done: the proxy does it for all its workers.
        """
        if database_of(self._study) is None:
            return
        if _just_back():
            self._unchanged.forget()
            return
        last = {number: heartbeat.at for number, heartbeat in last_heartbeats(self._study).items()}
        for number in self._unchanged.stale(last):
            fail_stale(self._study, number)
        trials = self._study.get_trials(deepcopy=False)
        if any(_awaits_retry(trials, trial) for trial in trials):
            with study_lock(self._study):
                trials = self._study.get_trials(deepcopy=False)
                for trial in trials:
                    if _awaits_retry(trials, trial):
                        requeue(self._study, trial)


class StaleRuns:
    """Finds stale full runs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._unchanged = Unchanged(clock)

    def among(self, runs: Mapping[int, FullRun]) -> set[int]:
        """Their trials."""
        if _just_back():
            self._unchanged.forget()
        running = {trial: run.heartbeat for trial, run in runs.items() if run.state is RunState.RUNNING}
        return self._unchanged.stale(running)


def _just_back() -> bool:
    """Whether living workers may not have had time for a heartbeat since the database was away."""
    return seconds_since_outage() < 2 * heartbeats.HEARTBEAT_SECONDS


def _awaits_retry(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    """Failed without a word, and not in the queue again."""
    return (
        trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs and not is_retried(trials, trial)
    )
