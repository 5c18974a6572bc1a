"""The plans of a study's trials: looked up, chosen, and as they are exported."""

from __future__ import annotations

from optuna.trial import TrialState

from jointsearch.errors import StudyError
from jointsearch.front.selection import at_knee
from jointsearch.plan.plan_file import PlanFile, PlanSource
from jointsearch.study.full_runs import selected
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord


def complete_trial(study: StoredStudy, number: int) -> TrialRecord:
    """The complete trial of that number; raises ``StudyError``."""
    trials = study.records().trials
    if not 0 <= number < len(trials):
        raise StudyError(
            f"the trial must be one of study '{study.name}', which has {len(trials)}, but got {number}"
        )
    if trials[number].state != TrialState.COMPLETE:
        state = trials[number].state.name.lower()
        raise StudyError(f"the trial must be complete, but trial {number} is {state}")
    return trials[number]


def records_with_front(study: StoredStudy) -> StudyRecords:
    """The records of the longest trials, which have a front; raises ``StudyError`` where none is complete."""
    records = study.records().answer
    if not records.front:
        raise StudyError(
            f"study '{study.name}' has no complete trial yet; `jointsearch study status {study.name}`"
        )
    return records


def chosen_trial(study: StoredStudy) -> int:
    """The number of the trial that was selected last, or of the knee of the front."""
    number = selected(study.optuna_study)
    if number is not None:
        return number
    return at_knee(records_with_front(study).front_points, study.config.quality).trial


def export_plan(study: StoredStudy, number: int | None = None) -> PlanFile:
    """A complete trial's plan as it is exported, by default the chosen one's.

    An adaptive plan has the ranks that it has ended with.
    """
    trial = complete_trial(study, chosen_trial(study) if number is None else number)
    adapts = bool(trial.measurement.ranks)
    source = PlanSource(
        study=study.name,
        trial=trial.number,
        label=f"{trial.origin.name}, distilled" if adapts else trial.origin.name,
        metrics=trial.measurement.metrics,
        memory=trial.measurement.memory,
    )
    plan = trial.plan.distilled(trial.measurement.ranks)
    return PlanFile.build(plan, study.layout, study.trained_config(trial.plan), source)
