"""One plan: what it says of the layers, where its bytes go, and its full run."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from jointsearch.dashboard.data.plan import PlanTable
from jointsearch.dashboard.figures.plan import loss_figure, parts_figure, plan_figure
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import study_at, study_path, trial_at
from jointsearch.dashboard.pages.elements import clock, graph, study_navigation, table_of
from jointsearch.dashboard.words import difference_text, point_lines
from jointsearch.front.objectives import format_value
from jointsearch.plan.plan_file import plan_text
from jointsearch.study.analysis.front_table import FrontTable
from jointsearch.study.full_runs import RunState, full_runs, select_trial, selected
from jointsearch.study.plans import complete_trial, export_plan
from jointsearch.study.stored import StoredStudy


def plan_page(study: StoredStudy, front: FrontTable, table: PlanTable) -> list[Any]:
    point = table.point
    others = [other for other in front.points if other.trial != point.trial]
    return [
        html.H1(f"{study.name}: trial {point.trial}"),
        study_navigation(study.name),
        html.P("; ".join(point_lines(front, point))),
        html.P(difference_text(front, table)),
        html.Div(
            [
                html.Label("Note", htmlFor="note"),
                dcc.Input(id="note", type="text", maxLength=500, className="grow"),
                html.Button("Select for the full run", id="select", type="button"),
                html.Button("Download plan.json", id="download-plan", type="button"),
            ],
            className="row",
        ),
        html.Div(full_run_lines(study, point.trial), id="full-run", role="status"),
        graph(plan_figure(table), "plan"),
        graph(parts_figure(table)),
        graph(loss_figure(table)),
        html.P(
            dcc.Link(
                "What each group's bits and rank are worth here",
                href=study_path(study.name, "why", point.trial),
            )
        ),
        html.H2("Compare with"),
        html.Ul(
            [
                html.Li(
                    dcc.Link(
                        "; ".join(point_lines(front, other)[:2]),
                        href=study_path(study.name, "compare", point.trial, other.trial),
                    )
                )
                for other in others
                if other.on_front or other.baseline
            ]
        ),
        clock("plan-clock"),
    ]


def full_run_lines(study: StoredStudy, trial: int) -> list[Any]:
    """The selection's note, where its full run stands, and what it has given beside the calibration."""
    run = full_runs(study.optuna_study.user_attrs).get(trial)
    if run is None:
        return []
    chosen = selected(study.optuna_study) == trial
    note = f": {run.selection.note}" if run.selection.note else ""
    found: list[Any] = [html.P(("Selected" if chosen else "Selected before another") + note)]
    state = f"Full run: {run.state}"
    if run.num_steps:
        state += f", step {run.step} of {run.num_steps}"
    if run.failure:
        state += f": {run.failure}"
    if run.state is RunState.WAITING:
        state += f"; `jointsearch worker {study.name} --full-runs` trains it"
    found.append(html.P(state))
    if run.measurement is not None:
        metrics = [complete_trial(study, trial).measurement.metrics, run.measurement.metrics]
        lines = [
            [name, *(format_value(name, values[name]) if name in values else "-" for values in metrics)]
            for name in run.measurement.metrics
        ]
        found.append(table_of(("validation", "calibration", "full run"), lines))
    return found


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("full-run", "children"),
        Input("select", "n_clicks"),
        Input("plan-clock", "n_intervals"),
        State("note", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def select(clicks: int | None, _ticks: int, note: str | None, path: str) -> Any:
        study, trial = study_at(studies, path), trial_at(path)
        if ctx.triggered_id == "select" and clicks:
            select_trial(study.optuna_study, complete_trial(study, trial).number, (note or "").strip())
        return full_run_lines(study, trial)

    @app.callback(
        Output("download", "data"),
        Input("download-plan", "n_clicks"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, path: str) -> Any:
        if not clicks:
            return no_update
        plan = export_plan(study_at(studies, path), trial_at(path))
        return {"filename": "plan.json", "content": plan_text(plan), "type": "application/json"}
