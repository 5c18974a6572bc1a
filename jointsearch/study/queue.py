"""The queue of a study: trials that wait, heartbeats of those that run, and the return of lost ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.search.experimental import experimental_optuna
from jointsearch.search.samplers import generation_of
from jointsearch.study.outages import outlast, seconds_since_outage
from jointsearch.study.records import FAILURE, PLAN_ATTRIBUTES, RETRY_OF
from jointsearch.study.storage import HEARTBEAT_SECONDS, study_lock


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


def recover_lost(study: optuna.Study) -> None:
    """Trials without a heartbeat have failed, and come back as new ones."""
    if seconds_since_outage() < 2 * HEARTBEAT_SECONDS:
        return  # living workers could not beat while the database was away
    with experimental_optuna():
        fail_stale_trials(study)
    if any(_is_lost(trials, trial) for trials in [study.get_trials(deepcopy=False)] for trial in trials):
        with study_lock(study):
            trials = study.get_trials(deepcopy=False)
            for trial in trials:
                if _is_lost(trials, trial):
                    give_back(study, trial)


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
