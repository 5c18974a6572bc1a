"""The list of studies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jointsearch.study.analysis.progress import Snapshot
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class StudyRow:
    """A study in the list of studies."""

    name: str
    model: str
    task: str
    objectives: tuple[str, ...]
    complete: int
    pruned: int
    running: int
    waiting: int
    failed: int
    total: int
    """Trials that the search is to have, and those asked for on top."""
    trials_per_hour: float | None
    last_activity: datetime | None
    """When a trial last began or ended, by the clock of its worker."""


def study_row(study: StoredStudy, records: StudyRecords) -> StudyRow:
    snapshot = Snapshot.of(records.at(None), study.config.search.trials)
    moments = [
        moment
        for trial in records.trials
        for moment in (trial.frozen.datetime_start, trial.frozen.datetime_complete)
        if moment
    ]
    return StudyRow(
        name=study.name,
        model=study.config.model.id,
        task=study.config.task.type,
        objectives=records.objectives,
        complete=snapshot.complete,
        pruned=snapshot.pruned,
        running=snapshot.running,
        waiting=len(records.waiting),
        failed=snapshot.failed,
        total=snapshot.total,
        trials_per_hour=snapshot.trials_per_hour,
        last_activity=max(moments, default=None),
    )
