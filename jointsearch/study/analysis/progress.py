"""How far a study is, and what its workers are at, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jointsearch.errors import visible
from jointsearch.front.objectives import format_value
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.heartbeats import last_heartbeats
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord


@dataclass(frozen=True)
class Snapshot:
    """A study's progress as plain data."""

    total: int
    complete: int
    pruned: int
    """Stopped early."""
    running: int
    failed: int
    best: str
    hypervolume: float | None
    trials_per_hour: float | None
    """Of the workers that are at it now, or of one."""
    seconds_left: float | None

    @classmethod
    def of(cls, records: StudyRecords, trials: int, steps: int) -> Snapshot:
        """``trials``: how many the search is to have; ``steps``: how long each of them trains."""
        best = records.best
        measured = [
            trial.seconds for trial in records.complete if trial.seconds is not None and trial.copy_of is None
        ]
        left = records.num_left(trials)
        spent = sum(measured)
        rate = max(1, len(records.running)) * len(measured) / spent if spent else None
        return cls(
            total=records.num_finished + left,
            complete=len(records.complete),
            pruned=len(records.pruned),
            running=len(records.running),
            failed=len(records.failed),
            best=trial_line(best) if best else "-",
            hypervolume=records.hypervolume,
            trials_per_hour=3600 * rate if rate else None,
            seconds_left=(left + _beyond_trials(records, steps)) / rate if rate else None,
        )


def _beyond_trials(records: StudyRecords, steps: int) -> float:
    """What the finals that are asked for take beyond as many trials, in trials: their time goes by steps."""
    finals = (trial.steps for trial in records.unfinished if trial.steps)
    return sum(final / steps - 1 for final in finals)


def trial_line(trial: TrialRecord | MeasuredPlan) -> str:
    """A complete trial, or a plan with its means, in a few words."""
    values = ", ".join(f"{name} {format_value(name, value)}" for name, value in trial.values.items())
    return visible(f"{values} (trial {trial.number}{', ' + trial.origin.name if trial.origin.name else ''})")


@dataclass(frozen=True)
class RunningTrial:
    """What a worker is at."""

    worker: str
    trial: int
    label: str
    seconds: float
    """Since it began, by this machine's clock."""
    heartbeat_age_seconds: float | None
    """By the database's clock; None before the first one."""


def running_trials(study: StoredStudy) -> list[RunningTrial]:
    """The running trials with their workers and heartbeats."""
    beats = last_heartbeats(study.optuna_study)
    return [
        RunningTrial(
            worker=trial.worker,
            trial=trial.number,
            label=trial.origin.name,
            seconds=(datetime.now() - trial.frozen.datetime_start).total_seconds(),
            heartbeat_age_seconds=beats[trial.number].age_seconds if trial.number in beats else None,
        )
        for trial in study.records().running
        if trial.frozen.datetime_start
    ]
