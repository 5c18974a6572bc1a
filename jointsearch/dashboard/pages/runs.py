"""The full runs of selected plans: where each stands, and what it has given beside its trial."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dash import Dash, Input, Output, State, dcc, html

from jointsearch.dashboard.data.losses import run_lines
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.plan import loss_figure
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import look_of, study_at, study_path
from jointsearch.dashboard.pages.elements import (
    card,
    clock,
    command_line,
    copy_button,
    empty,
    graph,
    said,
    table_of,
    tag,
)
from jointsearch.dashboard.words import ago, duration, plan_name
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.study.full_runs import FullRun, RunState, full_runs, selected
from jointsearch.study.plans import complete_trial
from jointsearch.study.stored import StoredStudy

TAGS = {
    RunState.WAITING: "",
    RunState.RUNNING: "blue",
    RunState.INTERRUPTED: "warn",
    RunState.COMPLETE: "good",
    RunState.FAILED: "bad",
}
MIN_RUNS = 2
"""Whose order can be told."""


def runs_page(study: StoredStudy, look: Look) -> list[Any]:
    return [
        html.H1(f"{study.name}: full runs", className="skip"),
        html.Div(run_cards(study, look), id="runs", className="stack"),
        clock("runs-clock"),
    ]


def worker_command(study: StoredStudy) -> str:
    return f"jointsearch worker {study.name} --full-runs"


def run_cards(study: StoredStudy, look: Look) -> list[Any]:
    runs = full_runs(study.optuna_study.user_attrs)
    if not runs:
        return [
            empty(
                "grid",
                "No plan is selected yet",
                html.P(
                    "Select one on its page; a worker with --full-runs trains it in full.", className="soft"
                ),
                dcc.Link("To the front", href=study_path(study.name)),
            )
        ]
    active = [run for run in runs.values() if run.state is RunState.RUNNING]
    every = card(
        "All full runs",
        _table(study, list(runs.values())),
        *_order(study, list(runs.values())),
        html.Div(command_line(worker_command(study)), className="gap"),
        note="trained by workers with --full-runs, in the order in which they were selected",
    )
    return [*(_running(study, run) for run in active), *_losses(study, list(runs.values()), look), every]


def _losses(study: StoredStudy, runs: list[FullRun], look: Look) -> list[Any]:
    """Validation losses over the steps, of the run that is at it or was selected last in blue."""
    active = [run.trial for run in runs if run.state is RunState.RUNNING]
    lines = run_lines(study.records(), runs, active[0] if active else selected(study.optuna_study))
    if not lines:
        return []
    figure = loss_figure(lines, look)
    drawn = graph(figure, "run-losses", "Validation losses of the full runs over training steps")
    return [
        card("Loss over steps", drawn, note="on the validation data; dotted: its trial; logarithmic steps")
    ]


def _name(study: StoredStudy, run: FullRun) -> str:
    return plan_name(run.trial, study.records().trials[run.trial].origin.name)


def _running(study: StoredStudy, run: FullRun) -> Any:
    share = run.step / run.num_steps if run.num_steps else 0.0
    texts = [f"step {run.step:,} of {run.num_steps:,}" if run.num_steps else "reading the data"]
    if run.began is not None and share > 0:
        spent = (datetime.now(UTC) - run.began).total_seconds()
        texts.append(f"{duration(spent * (1 - share) / share)} left at this rate")
    if run.heartbeat is not None:
        texts.append(f"heartbeat {ago(run.heartbeat, datetime.now(UTC))}")
    says = f"{run.worker}" + (f" · {run.selection.note}" if run.selection.note else "")
    name = _name(study, run)
    return card(
        f"{name[:1].upper()}{name[1:]} is being trained",
        html.Div(html.I(style={"width": f"{100 * share:.1f}%"}), className="pbar"),
        html.P(" · ".join(texts), className="small soft gap"),
        note=says,
    )


def _table(study: StoredStudy, runs: list[FullRun]) -> Any:
    """Each with the quality of its trial and its own, and where it lies."""
    quality = study.config.quality
    last = selected(study.optuna_study)
    lines = []
    for run in reversed(runs):
        trial = complete_trial(study, run.trial)
        own = run.measurement.metrics.get(quality) if run.measurement else None
        tags = [tag(run.state.value, TAGS[run.state])] + (
            [tag("exported by default")] if run.trial == last else []
        )
        rest = [text for text in (run.selection.note, run.failure) if text]
        where = _folder(run) if run.folder else ""
        lines.append(
            [
                dcc.Link(_name(study, run), href=study_path(study.name, "plan", run.trial)),
                html.Span(tags),
                format_value(quality, trial.values[quality]),
                "" if own is None else format_value(quality, own),
                format_bytes(trial.measurement.model_bytes),
                [html.Div(text, className="soft small") for text in rest] + [where],
            ]
        )
    heads = ("plan", "", f"{quality}, trial", f"{quality}, full run", "size", "note and folder")
    return table_of(heads, lines, ("l", "l r2", "", "r2", "opt", "wide"))


def _folder(run: FullRun) -> Any:
    """Where the run is, on its worker's machine: browsers open no such folder, but a path can be copied."""
    name = f"Copy the path of trial {run.trial}'s run"
    return html.Div(
        [html.Code(run.folder), copy_button("Copy path", run.folder, size="xs", **said(name))],
        className="row",
    )


def _order(study: StoredStudy, runs: list[FullRun]) -> list[Any]:
    """Whether the trials have put the finished runs in the order in which they have ended."""
    quality = study.config.quality
    sign = OBJECTIVES[quality].sign
    pairs = [
        (
            sign * complete_trial(study, run.trial).values[quality],
            sign * run.measurement.metrics[quality],
        )
        for run in runs
        if run.measurement is not None and quality in run.measurement.metrics
    ]
    if len(pairs) < MIN_RUNS:
        return []
    both = [(a, b) for number, a in enumerate(pairs) for b in pairs[number + 1 :]]
    kept = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in both)
    text = f"{kept} of {len(both)} pairs of finished runs have the order that their trials had."
    return [html.P([html.B("Trials and full runs: "), text], className="gap")]


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("runs", "children"),
        Input("runs-clock", "n_intervals"),
        State("address", "pathname"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str, look: dict[str, Any]) -> list[Any]:
        return run_cards(study_at(studies, path), look_of(look))
