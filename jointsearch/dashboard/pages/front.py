"""The front of a study, the point that a person's bound chooses, and whether searching has paid."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from jointsearch.dashboard.data.grid import Scale
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.front_view import Bound
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import look_of, study_at, study_path
from jointsearch.dashboard.pages.browser import in_browser
from jointsearch.dashboard.pages.choice import SLIDER, best_within, chooser, chosen_lines, loosest
from jointsearch.dashboard.pages.elements import button, card, clock, empty, graph, link_button, said
from jointsearch.dashboard.pages.front_refresh import (
    LOG,
    PREDICTED,
    Controls,
    after,
    axis_of,
    length_of,
    lengths_of,
    shown,
    shown_front,
    verdict_of,
)
from jointsearch.dashboard.pages.front_table import as_csv, front_lines, outside
from jointsearch.dashboard.words import axis_name
from jointsearch.errors import StudyError
from jointsearch.front.objectives import format_bytes
from jointsearch.study.analysis.front_table import FrontTable, axes_of, front_table
from jointsearch.study.analysis.prediction import measure_optimum
from jointsearch.study.analysis.verdict import Verdict
from jointsearch.study.full_runs import select_trial
from jointsearch.study.plans import complete_trial
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


def front_page(
    study: StoredStudy, records: StudyRecords, verdict: Verdict, version: str, look: Look, query: str = ""
) -> list[Any]:
    """``records``: of one length; ``verdict``: on those that have a front; ``version``: of the study that is
    shown; ``query``: of the address, with an axis and a bound that were shared."""
    table = front_table(study, records, axis_of(study, records, asked_axis(query)))
    if not table.points:
        return [
            empty(
                "clock",
                "No trial is complete yet",
                html.P("The front appears with its first plan.", className="soft"),
                link_button("See progress", study_path(table.study, "progress")),
            ),
            clock("waiting-clock"),
        ]
    bound = asked(table, query)
    point = best_within(table, bound)
    chart = _chart(study, records, table, point.trial, bound, look)
    length = length_of(study, records)
    lines = chosen_lines(table, point, verdict, Scale.of(study.space, [point.plan]))
    return [
        html.H1(f"{table.study}: the front", className="skip"),
        html.Div(verdict_of(study, records, verdict), id="verdict"),
        html.Div([chart, chooser(table, bound, lines)], className="g2"),
        card(
            "The front",
            html.Div(front_lines(table, verdict), id="points"),
            right=button("CSV", "front-csv", symbol="down"),
        ),
        dmc.Drawer(
            id="drawer",
            opened=False,
            position="bottom" if look.phone else "right",
            size="88%" if look.phone else 520,
            closeButtonProps={"aria-label": "Close"},
        ),
        dcc.Store(id="seen", data=shown(version, bound, length, (), point.trial, table.axis)),
        clock("front-clock"),
    ]


def _chart(
    study: StoredStudy, records: StudyRecords, table: FrontTable, choice: int, bound: Bound, look: Look
) -> Any:
    chips = [
        dmc.Chip(text, value=value, size="xs", variant="outline")
        for value, text in ((PREDICTED, "predicted, 90 %"), (LOG, "log size"))
    ]
    lengths = lengths_of(study, records)
    length = length_of(study, records)
    steps = dmc.SegmentedControl(id="steps", data=lengths, value=length, size="xs", **said("Training steps"))
    layers = dmc.ChipGroup(chips, id="layers", multiple=True, value=[])
    axes = [{"value": axis, "label": axis_name(axis)} for axis in axes_of(study, records)]
    axis = dmc.SegmentedControl(id="axis", data=axes, value=table.axis, size="xs", **said("Axis of bytes"))
    figure = front_figure(table, choice, bound, look=look)
    says = f"Pareto front of {len(table.front)} plans; the table below has the same numbers"
    return card(
        "Quality against bytes",
        _key(table),
        graph(figure, "front", says),
        html.P(outside(table, look), id="outside", className="soft small"),
        html.Div(
            [
                button("Measure the predicted best", "measure"),
                html.Span("", id="measured", role="status", className="soft small"),
            ],
            className="row gap",
        ),
        right=html.Div(
            [
                html.Label(["after steps", steps], className="row small soft", hidden=len(lengths) == 1),
                html.Label(["against", axis], className="row small soft", hidden=len(axes) == 1),
                html.Div(layers, className="row"),
            ],
            className="row",
        ),
    )


def asked(table: FrontTable, query: str) -> Bound:
    """The bound of an address, ``?by=size&bound=194000000``, of bytes on the axis; else the knee's."""
    found = {name: values[0] for name, values in parse_qs(query.lstrip("?")).items()}
    by = found.get("by", "size")
    widest = loosest(table, by if by in ("size", "quality") else "size")
    if "bound" not in found and widest.by == "size":
        return Bound("size", next(table.bytes_of(point) for point in table.front if point.knee))
    try:
        value = float(found["bound"])
    except (KeyError, ValueError):
        return widest
    if not math.isfinite(value):
        return widest
    ends = [table.bytes_of(point) if widest.by == "size" else point.quality for point in table.front]
    return Bound(widest.by, min(max(value, min(ends)), max(ends)))


def asked_steps(query: str) -> str | None:
    """How long the trials are to have trained, by an address: ``?steps=240``."""
    return parse_qs(query.lstrip("?")).get("steps", [None])[0]


def asked_axis(query: str) -> str | None:
    """What the quality is to be seen against, by an address: ``?axis=training_memory``."""
    return parse_qs(query.lstrip("?")).get("axis", [None])[0]


def _key(table: FrontTable) -> Any:
    circle = {} if table.long_steps else {"borderRadius": "50%"}
    shapes = (
        ("searched", {"background": "var(--blue)", **circle}),
        ("named, without a search", {"background": "var(--ref)", "transform": "rotate(45deg) scale(.8)"}),
        ("other trials", {"background": "var(--grey)", "borderRadius": "50%", "opacity": 0.6}),
    )
    return html.Div([html.Span([html.I(style=style), text]) for text, style in shapes], className="key")


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    _add_refresh(app, studies)
    _add_download(app, studies)
    in_browser(
        app,
        "jointsearch.bound",
        Output("bound", "value"),
        Output("number", "value"),
        Input("bound", "value"),
        Input("number", "value"),
        Input("steps", "value"),
        Input("axis", "value"),
        State("unit", "data"),
        State("by", "value"),
        first=False,
    )

    @app.callback(
        Output("measured", "children"),
        Input("measure", "n_clicks"),
        State("by", "value"),
        State("bound", "value"),
        State("steps", "value"),
        State("axis", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def measure(clicks: int | None, by: str, bound: float, steps: str, axis: str, path: str) -> Any:
        if not clicks:
            return no_update
        study = study_at(studies, path)
        try:
            records = after(study, study.records(), steps)
            is_size = (by, axis) == ("size", "model_bytes")
            most = bound if is_size else loosest(front_table(study, records, "model_bytes"), "size").value
            point = measure_optimum(study, int(most))
        except StudyError as error:
            return str(error)
        return f"The predicted best plan of {format_bytes(point.model_bytes)} waits for a worker."

    @app.callback(
        Output("select-best-status", "children"),
        Input("select-best", "n_clicks"),
        State("seen", "data"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def select(clicks: int | None, seen: dict[str, Any], path: str) -> Any:
        if not clicks or seen["choice"] is None:
            return no_update
        study = study_at(studies, path)
        select_trial(study.optuna_study, complete_trial(study, int(seen["choice"])).number)
        return f"Selected. `jointsearch worker {study.name} --full-runs` trains it."


def _add_download(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("download", "data", allow_duplicate=True),
        Input("front-csv", "n_clicks"),
        State("steps", "value"),
        State("axis", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, steps: str, axis: str, path: str) -> Any:
        if not clicks:
            return no_update
        study = study_at(studies, path)
        records = after(study, study.records(), steps)
        table = front_table(study, records, axis_of(study, records, axis))
        text = as_csv(table, studies.verdict(study, records))
        return {"filename": f"{study.name}-front.csv", "content": text, "type": "text/csv"}


def _add_refresh(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        output={
            "figure": Output("front", "figure"),
            "best": Output("best", "children"),
            "points": Output("points", "children"),
            "verdict": Output("verdict", "children"),
            "outside": Output("outside", "children"),
            "seen": Output("seen", "data", allow_duplicate=True),
            "slider": {name: Output("bound", name, allow_duplicate=name == "value") for name in SLIDER},
            "ends": Output("ends", "children"),
            "word": Output("bound-word", "children"),
            "unit": Output("unit", "data"),
            "suffix": Output("number", "suffix"),
            "bounds": Output("by", "data"),
        },
        inputs={
            "_ticks": Input("front-clock", "n_intervals"),
            "path": State("address", "pathname"),
            "look": State("look", "data"),
            "controls": {
                "by": Input("by", "value"),
                "bound": Input("bound", "value"),
                "least": State("bound", "min"),
                "most": State("bound", "max"),
                "steps": Input("steps", "value"),
                "axis": Input("axis", "value"),
                "layers": Input("layers", "value"),
                "seen": State("seen", "data"),
                "zoom": State("front", "relayoutData"),
            },
        },
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str, look: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
        study = study_at(studies, path)
        return shown_front(studies, study, Controls(**controls), ctx.triggered_id, look_of(look))
