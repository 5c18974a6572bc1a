"""The queue of a study: trials that wait, heartbeats of those that run, and the return of lost ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.plan import Plan
from jointsearch.search.experimental import experimental_optuna
from jointsearch.search.samplers import distributions, generation_of
from jointsearch.space import SearchSpace
from jointsearch.study.outages import outlast, seconds_since_outage
from jointsearch.study.records import DIGEST, FAILURE, PLAN, PLAN_ATTRIBUTES, RETRY_OF, TrialRecord
from jointsearch.study.storage import (
    HEARTBEAT_SECONDS,
    STALE_SECONDS,
    running_without_heartbeat,
    study_lock,
)


@contextmanager
def beating(study: optuna.Study, trial_id: int) -> Iterator[None]:
    """The trial's heartbeat, from a thread of its own that outlives an absence of the database."""
    storage = study._storage
    if not isinstance(storage, BaseHeartbeat) or (interval := storage.get_heartbeat_interval()) is None:
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(interval):
            outlast(lambda: storage.record_heartbeat(trial_id), ended.is_set)

    outlast(lambda: storage.record_heartbeat(trial_id))
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class LostTrials:
    """Finds the trials of workers that are gone, and puts their plans back into the queue.

    A trial is lost when its heartbeat has been missing for ``STALE_SECONDS`` by the database's clock, or
    when this process has seen it without any heartbeat for so long: its worker went before the first one.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._silent_since: dict[int, float] = {}

    def recover(self) -> None:
        if seconds_since_outage() < 2 * HEARTBEAT_SECONDS:
            return  # living workers could not beat while the database was away
        with experimental_optuna():
            fail_stale_trials(self._study)
        self._fail_silent()
        trials = self._study.get_trials(deepcopy=False)
        if any(_is_lost(trials, trial) for trial in trials):
            with study_lock(self._study):
                trials = self._study.get_trials(deepcopy=False)
                for trial in trials:
                    if _is_lost(trials, trial):
                        give_back(self._study, trial)

    def _fail_silent(self) -> None:
        silent = running_without_heartbeat(self._study)
        now = time.monotonic()
        self._silent_since = {trial: self._silent_since.get(trial, now) for trial in silent}
        for trial, since in self._silent_since.items():
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
            system_attrs=generation_of() if values is not None else {},
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
