"""How a search goes."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from jointsearch.study.analysis.fidelity import Fidelity, fidelities
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that has ended, on the time line of its worker."""

    trial: int
    worker: str
    state: str
    """``complete``, ``pruned`` or ``failed``."""
    started: datetime
    ended: datetime


@dataclass(frozen=True)
class ProgressTable:
    """How a search goes."""

    hypervolume: tuple[tuple[int, float], ...]
    """(trial, what the plans up to it dominate, that of the uniform plans = 1); see
    ``StudyRecords.hypervolume_curve``."""
    search_began: int | None
    """The first complete trial that the search itself has chosen."""
    timeline: tuple[FinishedTrial, ...]
    failures: tuple[tuple[str, int], ...]
    """Reasons with how often each was met, the most frequent first."""
    seconds_by_phase: dict[str, float]
    """Median over the complete trials that were measured here."""
    share_saved: float
    """Of the training steps, by early stopping."""
    fidelities: tuple[Fidelity, ...] = ()
    """How well trials have foretold finals of each length that enough plans have."""


def progress_table(study: StoredStudy, records: StudyRecords) -> ProgressTable:
    finished = (*records.all_complete, *records.pruned, *records.failed)
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    timeline = [
        FinishedTrial(
            trial.number,
            trial.worker or "unknown",
            states[trial.state.name],
            trial.frozen.datetime_start,
            trial.frozen.datetime_complete,
        )
        for trial in finished
        if trial.worker and trial.frozen.datetime_start and trial.frozen.datetime_complete
    ]
    phases: dict[str, list[float]] = {}
    for trial in records.at(None).complete:
        if trial.copy_of is None:
            for phase, seconds in trial.measurement.seconds.items():
                phases.setdefault(phase, []).append(seconds)
    began = [trial.number for trial in records.at(None).complete if trial.origin.kind == "search"]
    return ProgressTable(
        hypervolume=records.at(None).hypervolume_curve,
        search_began=min(began, default=None),
        timeline=tuple(sorted(timeline, key=lambda trial: trial.trial)),
        failures=tuple(Counter(trial.failure or "unknown" for trial in records.failed).most_common()),
        seconds_by_phase={phase: statistics.median(seconds) for phase, seconds in phases.items()},
        share_saved=records.share_saved(study.config.calibration.steps),
        fidelities=tuple(fidelities(records)),
    )
