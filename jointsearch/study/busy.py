"""Which workers are at a study, as far as the storage tells."""

from __future__ import annotations

from datetime import UTC, datetime

from jointsearch.study.attributes import WORKER
from jointsearch.study.full_runs import RunState, full_runs
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.heartbeats import last_heartbeats
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord


def busy_workers(study: StoredStudy) -> list[str]:
    """Workers that live and have a trial or a full run, and what they have."""
    beats = last_heartbeats(study.optuna_study)
    trials = [
        f"{trial.frozen.user_attrs.get(WORKER, 'a worker')} with trial {trial.number}"
        for trial in study.records().running
        if _silent_seconds(trial, beats) < heartbeats.STALE_SECONDS
    ]
    now = datetime.now(UTC)
    runs = [
        f"{run.worker} with the full run of trial {run.trial}"
        for run in full_runs(study.optuna_study.user_attrs).values()
        if run.state is RunState.RUNNING
        and run.heartbeat is not None
        and (now - run.heartbeat).total_seconds() < heartbeats.STALE_SECONDS
    ]
    return trials + runs


def _silent_seconds(trial: TrialRecord, beats: dict[int, heartbeats.Heartbeat]) -> float:
    beat = beats.get(trial.number)
    if beat is None:
        return 0.0  # behind a proxy, which ends stale trials itself
    if beat.age_seconds is not None:
        return beat.age_seconds
    start = trial.frozen.datetime_start
    return 0.0 if start is None else (datetime.now() - start).total_seconds()
