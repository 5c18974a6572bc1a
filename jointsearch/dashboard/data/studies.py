"""The list of studies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from jointsearch.study.analysis.progress import Snapshot
from jointsearch.study.control import Wanted, wanted
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

State = Literal["running", "finished", "paused", "stopped", "waiting"]


@dataclass(frozen=True)
class StudyRow:
    """A study in the list of studies."""

    name: str
    model: str
    task: str
    objectives: tuple[str, ...]
    state: State
    """``stopped`` where no worker is at it though trials are left, ``waiting`` before the first trial."""
    complete: int
    pruned: int
    running: int
    waiting: int
    failed: int
    total: int
    """Trials that the search is to have, and those asked for on top."""
    trials_per_hour: float | None
    seconds_left: float | None
    last_activity: datetime | None
    """When a trial last began or ended, by the clock of its worker."""
    hypervolume: tuple[float, ...]
    """As ``StudyRecords.hypervolume_curve`` has it."""

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


def study_row(study: StoredStudy, records: StudyRecords) -> StudyRow:
    config = study.config
    snapshot = Snapshot.of(records.at(None), config.search.trials, config.calibration.steps)
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
        state=_state(study, records),
        complete=snapshot.complete,
        pruned=snapshot.pruned,
        running=snapshot.running,
        waiting=len(records.waiting),
        failed=snapshot.failed,
        total=snapshot.total,
        trials_per_hour=snapshot.trials_per_hour,
        seconds_left=snapshot.seconds_left,
        last_activity=max(moments, default=None),
        hypervolume=tuple(share for _, share in records.at(None).hypervolume_curve),
    )


def _state(study: StoredStudy, records: StudyRecords) -> State:
    if study.num_left(records) == 0:
        return "finished"
    if wanted(study.optuna_study) is Wanted.PAUSE:
        return "paused"
    if records.running:
        return "running"
    return "stopped" if records.num_finished else "waiting"
