"""Heartbeats of running trials: workers record them, and tell by them which workers are gone.

Optuna's proxy has no heartbeats. A worker behind it counts a trial's beats in an attribute of the trial, and
the process of the proxy makes a heartbeat in the database of every change, where everyone sees it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import TrialState
from sqlalchemy import func, select

from jointsearch.study.storage.internals import database_of, storage_of, study_id

HEARTBEAT_SECONDS = 10
"""Between two of a worker."""
STALE_SECONDS = 60
"""Without a heartbeat for so long a worker is taken for gone."""

BEAT = "beat"
"""Attribute of a trial whose worker is behind a proxy: how often its heart has beaten."""


@dataclass(frozen=True)
class Heartbeat:
    """The last one of a running trial; both are None before the first."""

    at: datetime | None
    age_seconds: float | None
    """By the database's clock."""


def last_heartbeats(study: optuna.Study) -> dict[int, Heartbeat]:
    """Those of all running trials, by number; none at all behind a proxy, which sees to them itself."""
    database = database_of(study)
    if database is None:
        return {}
    query = (
        select(TrialModel.number, TrialHeartbeatModel.heartbeat, func.now())
        .outerjoin(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
        .where(TrialModel.study_id == study_id(study), TrialModel.state == TrialState.RUNNING)
    )
    with _create_scoped_session(database.scoped_session) as session:
        rows = session.execute(query).all()
    # PostgreSQL's now() has a time zone, its column and SQLite have none
    return {
        number: Heartbeat(beat, (now.replace(tzinfo=None) - beat).total_seconds() if beat else None)
        for number, beat, now in rows
    }


def record_heartbeat(trial: optuna.Trial, count: int) -> None:
    """The heartbeat of a running trial; ``count``: how many there have been before."""
    storage = storage_of(trial.study)
    if isinstance(storage, BaseHeartbeat):
        storage.record_heartbeat(trial._trial_id)
    else:
        with suppress(UpdateFinishedTrialError):  # it was taken for stale
            storage.set_trial_user_attr(trial._trial_id, BEAT, count)


def relay_heartbeats(study: optuna.Study, counts: dict[int, int]) -> None:
    """Make a heartbeat of every count that has changed: those of workers behind a proxy.

    ``counts``: the last one of each trial, by its id; brought up to date.
    """
    database = database_of(study)
    assert database is not None
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        count = trial.user_attrs.get(BEAT)
        if count is not None and counts.get(trial._trial_id) != count:
            counts[trial._trial_id] = count
            database.record_heartbeat(trial._trial_id)
