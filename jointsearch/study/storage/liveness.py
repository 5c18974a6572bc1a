"""Heartbeats of running trials, as the database has them."""

from __future__ import annotations

from datetime import datetime

import optuna
from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel
from optuna.trial import TrialState
from sqlalchemy import func, select

from jointsearch.study.storage.locks import engine_of

HEARTBEAT_SECONDS = 10

STALE_SECONDS = 60


def heartbeats(study: optuna.Study) -> dict[int, tuple[datetime | None, float | None]]:
    """The last heartbeat of every running trial, by id, and its age in seconds by the database's clock.

    None for a trial that has had none yet, and no trials at all behind a proxy, which sees to them itself.
    """
    engine = engine_of(study)
    if engine is None:
        return {}
    query = (
        select(TrialModel.trial_id, TrialHeartbeatModel.heartbeat, func.now())
        .outerjoin(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
        .where(TrialModel.study_id == study._study_id, TrialModel.state == TrialState.RUNNING)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    # PostgreSQL's now() has a time zone, its column and SQLite have none
    return {
        trial: (beat, (now.replace(tzinfo=None) - beat).total_seconds() if beat else None)
        for trial, beat, now in rows
    }
