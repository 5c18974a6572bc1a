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
from jointsearch.dashboard.pages.bars import by_size, divided_bar
from jointsearch.dashboard.pages.elements import card, clock, graph, stat, table_of, tag
from jointsearch.dashboard.words import MINUS, duration, rate_of
from jointsearch.front.objectives import format_value
from jointsearch.study.analysis.fidelity import GOOD
from jointsearch.study.analysis.progress import RunningTrial, running_trials
from jointsearch.study.storage.heartbeats import STALE_SECONDS
from jointsearch.study.stored import StoredStudy

LONG_FAILURE = 80
"""Characters of a reason that stand in its heading."""


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
        html.Div(fidelity_cards(table), id="fidelity"),
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


def fidelity_cards(table: ProgressTable) -> list[Any]:
    """How well trials foretell longer ones; nothing where a study has none."""
    if not table.fidelities:
        return []
    lines = [
        [
            f"{found.steps:,} steps",
            found.num_plans,
            f"{found.correlation:.2f} ({found.low:.2f} to {found.high:.2f})".replace("-", MINUS),
            f"{100 * found.overlap:.0f} %",
            format_value(found.quality, found.regret),
            tag("good", "good") if found.correlation >= GOOD else tag("doubtful", "warn"),
        ]
        for found in table.fidelities
    ]
    heads = ("finals of", "plans", "rank correlation", "on both fronts", "lost by choosing", "")
    advice = [
        html.P("Raise calibration.steps, or choose among the finals alone.", className="soft gap")
        for worst in [min(found.correlation for found in table.fidelities)]
        if worst < GOOD
    ]
    return [
        card(
            "Do trials foretell finals?",
            table_of(heads, lines, ("l", "", "", "", "", "l"), by_lines=False),
            *advice,
            note="on the plans that have both; what is lost by who takes the trials' word for it",
        )
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
    slices = by_size(table.seconds_by_phase)
    advice = {
        "evaluate": "Fewer validation examples would make trials faster.",
        "train": "Most of it trains: fewer calibration steps would make trials faster, and tell less.",
        "assemble": "Most of it builds the model: a worker that runs longer builds less.",
    }
    return [
        *divided_bar(slices, duration),
        html.P(
            f"Median of the complete trials: {duration(total)}. {advice.get(slices[0].name, '')}",
            className="gap",
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
        Output("fidelity", "children"),
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
            fidelity_cards(table),
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
