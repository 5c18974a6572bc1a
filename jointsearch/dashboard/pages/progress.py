"""How a search goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.data.progress import ProgressTable, progress_table
from jointsearch.dashboard.data.studies import StudyRow, study_row
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.progress import hypervolume_figure, timeline_figure
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import look_of, study_at
from jointsearch.dashboard.pages.elements import card, clock, graph, said, stat, table_of, tag
from jointsearch.dashboard.words import duration, rate_of
from jointsearch.study.analysis.progress import RunningTrial, running_trials
from jointsearch.study.storage.heartbeats import STALE_SECONDS
from jointsearch.study.stored import StoredStudy

LONG_FAILURE = 80
"""Characters of a reason that stand in its heading."""
PART_COLOURS = (("bits-2", "bits-ink-2"), ("bits-1", "bits-ink-1"), ("bits-0", "bits-ink-0"), ("grid", "ink"))


def progress_page(
    study: StoredStudy,
    row: StudyRow,
    table: ProgressTable,
    running: Sequence[RunningTrial],
    version: str,
    look: Look,
) -> list[Any]:
    return [
        html.H1(f"{study.name}: progress", className="skip"),
        html.Div(tiles(row, table), id="tiles", className="g4"),
        html.Div(
            [
                card(
                    "Workers",
                    html.Div(worker_lines(running), id="workers"),
                    note=f"the trial of a worker that is silent for {STALE_SECONDS} s goes back to the queue",
                ),
                card("Failures", html.Div(failure_lines(table), id="failures")),
            ],
            className="g2",
        ),
        html.Div(
            [
                card(
                    "Hypervolume",
                    graph(hypervolume_figure(table, look), "hypervolume", "Hypervolume over the trials"),
                    note="above 1 the front is more than the uniform plans are",
                ),
                card("Where a trial's time goes", html.Div(phase_lines(table), id="phases")),
            ],
            className="g2",
        ),
        card(
            "Trials over time",
            html.Div(
                [
                    html.Span([html.I(style={"background": f"var(--{colour})"}), text])
                    for colour, text in (
                        ("blue", "● complete"),
                        ("warn", "▼ stopped early"),
                        ("bad", "✕ failed"),
                    )
                ],
                className="key",
            ),
            graph(timeline_figure(table, look), "timeline", "When each worker finished its trials"),
        ),
        dcc.Store(id="seen", data=version),
        clock("progress-clock"),
    ]


def tiles(row: StudyRow, table: ProgressTable) -> list[Any]:
    """Trials, rate, time left, and what early stopping has spared."""
    share = 100 * row.finished / row.total if row.total else 0.0
    rate, _, unit = ("—" if row.trials_per_hour is None else rate_of(row.trials_per_hour)).partition(" ")
    left = "—" if not row.seconds_left else duration(row.seconds_left)
    shown = (
        (
            stat("Trials", f"{row.finished} of {row.total}", f"{row.failed} failed, {row.running} running"),
            html.Div(html.I(style={"width": f"{share:.1f}%"}), className="pbar"),
        ),
        (stat("Rate", rate, f"{unit}, with {max(row.running, 1)} at it" if unit else ""),),
        (stat("Time left", left, "at this rate" if row.state == "running" else row.state),),
        (stat("Saved by early stopping", f"{100 * table.share_saved:.0f} %", "of the training steps"),),
    )
    return [html.Div([html.Dl(first), *rest], className="card") for first, *rest in shown]


def worker_lines(running: Sequence[RunningTrial]) -> Any:
    if not running:
        return html.P("No worker is at it.", className="soft")
    lines = []
    for trial in running:
        age = trial.heartbeat_age_seconds
        silent = age is not None and age > STALE_SECONDS
        lines.append(
            [
                trial.worker or "unknown",
                tag("silent", "warn") if silent else tag("alive", "good"),
                f"trial {trial.trial}" + (f", {trial.label}" if trial.label else ""),
                f"for {duration(trial.seconds)}",
                "no heartbeat yet" if age is None else f"heartbeat {duration(age)} ago",
            ]
        )
    return table_of(("worker", "", "trial", "", ""), lines, ("l", "l r2", "l", "l r2", "l opt"))


def failure_lines(table: ProgressTable) -> Any:
    """Why trials have failed, how often."""
    if not table.failures:
        return html.P("None.", className="soft")
    items = []
    for number, (reason, count) in enumerate(table.failures):
        head = reason if len(reason) <= LONG_FAILURE else f"{reason[:LONG_FAILURE]}…"
        items.append(
            dmc.AccordionItem(
                [
                    dmc.AccordionControl([tag(f"{count} ×", "bad"), head]),
                    dmc.AccordionPanel(html.Pre(reason)),
                ],
                value=str(number),
            )
        )
    return dmc.Accordion(items, variant="separated", order=3)


def phase_lines(table: ProgressTable) -> list[Any]:
    """The phases of a trial in one bar, and what one could do about the longest."""
    total = sum(table.seconds_by_phase.values())
    if not total:
        return [html.P("No times are recorded.", className="soft")]
    bars, keys = [], []
    phases = sorted(table.seconds_by_phase.items(), key=lambda item: -item[1])
    for number, (phase, seconds) in enumerate(phases):
        ground, ink = PART_COLOURS[min(number, len(PART_COLOURS) - 1)]
        share = seconds / total
        text = f"{100 * share:.0f} %" if share > 0.15 else ""
        style = {"width": f"{100 * share:.2f}%", "background": f"var(--{ground})", "color": f"var(--{ink})"}
        bars.append(html.Span(text, style=style))
        keys.append(
            html.Span([html.I(style={"background": f"var(--{ground})"}), f"{phase} {duration(seconds)}"])
        )
    longest = phases[0][0]
    advice = {
        "evaluate": "Fewer validation examples would make trials faster.",
        "train": "Most of it trains: fewer calibration steps would make trials faster, and tell less.",
        "assemble": "Most of it builds the model: a worker that runs longer builds less.",
    }
    says = ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in phases)
    return [
        html.Div(bars, className="hbar", role="img", **said(says)),
        html.Div(keys, className="key"),
        html.P(
            f"Median of the complete trials: {duration(total)}. {advice.get(longest, '')}", className="gap"
        ),
    ]


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("hypervolume", "figure"),
        Output("timeline", "figure"),
        Output("timeline", "style"),
        Output("tiles", "children"),
        Output("failures", "children"),
        Output("phases", "children"),
        Output("seen", "data"),
        Input("progress-clock", "n_intervals"),
        State("address", "pathname"),
        State("seen", "data"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str, seen: str, look: dict[str, Any]) -> tuple[Any, ...]:
        study = study_at(studies, path)
        records = study.records()
        version = version_of(study, records)
        if version == seen:
            raise PreventUpdate
        table, row, drawn = progress_table(study, records), study_row(study, records), look_of(look)
        timeline = timeline_figure(table, drawn)
        return (
            hypervolume_figure(table, drawn),
            timeline,
            {"height": f"{timeline.layout.height}px"},
            tiles(row, table),
            failure_lines(table),
            phase_lines(table),
            version,
        )

    @app.callback(
        Output("workers", "children"),
        Input("progress-clock", "n_intervals"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def watch(_ticks: int, path: str) -> Any:
        return worker_lines(running_trials(study_at(studies, path)))
