"""Where a plan's full run stands."""

from __future__ import annotations

from typing import Any

from dash import html

from jointsearch.dashboard.pages.elements import icon, table_of, with_code
from jointsearch.front.objectives import format_value
from jointsearch.study.full_runs import RunState, full_runs, selected
from jointsearch.study.plans import complete_trial
from jointsearch.study.stored import StoredStudy


def full_run_lines(study: StoredStudy, trial: int) -> list[Any]:
    """The selection's note, where its full run stands, and what it has given beside the calibration."""
    run = full_runs(study.optuna_study.user_attrs).get(trial)
    if run is None:
        return []
    chosen = selected(study.optuna_study) == trial
    note = f": {run.selection.note}" if run.selection.note else ""
    head = "Selected" if chosen else "Selected before another"
    found: list[Any] = [html.P([icon("check"), html.Span(head + note)], className="row gap")]
    state = f"Full run: {run.state}"
    if run.num_steps:
        state += f", step {run.step} of {run.num_steps}"
    if run.failure:
        state += f": {run.failure}"
    if run.state is RunState.WAITING:
        state += f"; `jointsearch worker {study.name} --full-runs` trains it"
    found.append(html.P(with_code(state), className="soft"))
    if run.measurement is not None:
        metrics = [complete_trial(study, trial).measurement.metrics, run.measurement.metrics]
        lines = [
            [name, *(format_value(name, values[name]) if name in values else "-" for values in metrics)]
            for name in run.measurement.metrics
        ]
        found.append(
            table_of(("validation", "calibration", "full run"), lines, ("l", "", ""), by_lines=False)
        )
    return found
