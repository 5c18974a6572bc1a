"""The queue of a study: trials that wait, heartbeats of those that run, and the return of lost ones."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.plan import Plan
from jointsearch.search.samplers import distributions, generation_of
from jointsearch.space import SearchSpace
from jointsearch.study.outages import outlast, seconds_since_outage
from jointsearch.study.proxy import BEAT
from jointsearch.study.records import DIGEST, FAILURE, PLAN, PLAN_ATTRIBUTES, RETRY_OF, TrialRecord
from jointsearch.study.storage import (
    HEARTBEAT_SECONDS,
    STALE_SECONDS,
    engine_of,
    heartbeats,
    study_lock,
)


@contextmanager
def beating(study: optuna.Study, trial_id: int) -> Iterator[None]:
    """The trial's heartbeat, from a thread of its own that outlives an absence of the database."""
    storage = study._storage
    counter = itertools.count()
    ended = threading.Event()

    def beat() -> None:
        if isinstance(storage, BaseHeartbeat):
            storage.record_heartbeat(trial_id)
        else:  # behind a proxy, which takes it from there
            with suppress(UpdateFinishedTrialError):  # taken for lost
                storage.set_trial_user_attr(trial_id, BEAT, next(counter))

    def keep_beating() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
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
        if engine_of(self._study) is None:
            return
        if seconds_since_outage() < 2 * HEARTBEAT_SECONDS:
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
        seen = [(trial, beat) for trial, (beat, _) in heartbeats(self._study).items()]
        self._unchanged_since = {key: self._unchanged_since.get(key, now) for key in seen}
        for (trial, _), since in self._unchanged_since.items():
            if now - since > STALE_SECONDS:
                with suppress(UpdateFinishedTrialError):  # another worker was faster
                    self._study._storage.set_trial_state_values(trial, TrialState.FAIL)


def enqueue(study: optuna.Study, space: SearchSpace, plan: Plan, attributes: Mapping[str, Any]) -> None:
    """Put ``plan`` into the queue; without Optuna parameters where the space does not have it."""
    values = space.values_of(plan)
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=values or {},
            distributions=dict(distributions(space)) if values is not None else {},
            user_attrs={PLAN: plan.model_dump(mode="json"), DIGEST: plan.digest, **attributes},
            system_attrs=generation_of(),
        )
    )


def take(study: optuna.Study, waiting: Iterable[TrialRecord]) -> optuna.Trial | None:
    """The first of ``waiting`` that no other worker takes, running from now on."""
    for trial in waiting:
        if study._storage.set_trial_state_values(trial.frozen._trial_id, TrialState.RUNNING):
            return optuna.Trial(study, trial.frozen._trial_id)
    return None


def give_back(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the plan of a lost or interrupted trial back into the queue, as a new trial, once."""
    if _is_retried(study.get_trials(deepcopy=False), trial):
        return
    kept = {key: value for key, value in trial.user_attrs.items() if key in PLAN_ATTRIBUTES}
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**kept, RETRY_OF: trial.number},
            system_attrs=generation_of(trial),
        )
    )


def _is_lost(trials: list[FrozenTrial], trial: FrozenTrial) -> bool:
    """Failed without a word, and not in the queue again."""
    return (
        trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs and not _is_retried(trials, trial)
    )


def _is_retried(trials: list[FrozenTrial], trial: FrozenTrial) -> bool:
    return any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials)
