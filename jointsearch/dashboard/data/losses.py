"""Validation losses along trials and full runs, each as a line with its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jointsearch.dashboard.data.plan import PlanTable
from jointsearch.dashboard.words import name_of, plan_name
from jointsearch.measurement import LossPoint
from jointsearch.study.analysis.front_table import PlanPoint
from jointsearch.study.full_runs import FullRun, full_runs
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class LossLine:
    """Validation losses of one run."""

    name: str
    points: Sequence[LossPoint]
    kind: str
    """``plan``, ``longer`` (trials of the same plan), ``full`` (its full run), ``rival``, or
    the trial of a full run: ``trial`` and ``rival's trial``."""


def loss_lines(study: StoredStudy, table: PlanTable, rival: PlanPoint | None = None) -> list[LossLine]:
    """A trial's losses, after a rival's and those of its plan in trials of other lengths and in full."""
    records = study.records()
    digest = table.point.measured.digest
    found = []
    if rival is not None:
        found.append(LossLine(name_of(rival), rival.measured.measurement.validation_losses, "rival"))
    for steps in (None, *records.lengths):
        same = [plan for plan in records.at(steps).measured if plan.digest == digest]
        if same and same[0].number != table.point.trial:
            name = f"{steps or study.config.calibration.steps} steps"
            found.append(LossLine(name, same[0].measurement.validation_losses, "longer"))
    runs = full_runs(study.optuna_study.user_attrs).values()
    of_plan = [run for run in runs if records.trials[run.trial].digest == digest]
    found += [LossLine("full run", run.validation_losses, "full") for run in of_plan]
    return [*found, LossLine(f"trial {table.point.trial}", table.validation_losses, "plan")]


def run_lines(records: StudyRecords, runs: Iterable[FullRun], chosen: int | None) -> list[LossLine]:
    """The losses of full runs, each after its trial's; those of ``chosen`` are the last, above the others."""
    found = []
    for run in sorted(runs, key=lambda run: run.trial == chosen):
        if not run.validation_losses:
            continue
        trial = records.trials[run.trial]
        name = plan_name(run.trial, trial.origin.name)
        of_trial, of_run = ("trial", "plan") if run.trial == chosen else ("rival's trial", "rival")
        found.append(LossLine(f"{name}, trial", trial.measurement.validation_losses, of_trial))
        found.append(LossLine(name, run.validation_losses, of_run))
    return found
