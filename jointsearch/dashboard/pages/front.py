"""The front of a study, the point that a person's bounds choose, and whether searching has paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import Dash, Input, Output, Patch, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import parts_of, study_at, study_path
from jointsearch.dashboard.pages.bounds import SLIDER, Bounds, best_within, slider
from jointsearch.dashboard.pages.elements import clock, graph, new_data, study_navigation, table_of
from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.search.additive.predicted_front import PredictedPoint
from jointsearch.study.analysis.front_table import FrontTable, front_table
from jointsearch.study.analysis.prediction import measure_optimum, predict_front
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

PREDICTED = "predicted"
LINEAR = "linear"


def front_page(table: FrontTable, verdict: str, version: str) -> list[Any]:
    """``version``: of the study that is shown."""
    head = [html.H1(table.study), study_navigation(table.study)]
    if not table.points:
        return [*head, html.P("No trial is complete yet."), clock("waiting-clock")]
    loosest = Bounds.loosest(table)
    return [
        *head,
        html.P(verdict, id="verdict"),
        html.P("A click on a point opens its plan; so do the links below.", className="help"),
        graph(front_figure(table), "front"),
        html.Div(
            [
                dcc.RadioItems(["linear", "log"], LINEAR, id="scale", inline=True),
                dcc.Checklist([{"label": "predicted front", "value": PREDICTED}], [], id="layers"),
            ],
            className="row",
        ),
        html.Div(
            [
                slider("budget", "At most this size", loosest.size_slider(table)),
                slider("bound", f"{table.quality} at least as good as", loosest.quality_slider(table)),
            ],
            className="row",
        ),
        html.Div(best_within(table, loosest)[1], id="best"),
        html.Div(
            [
                html.Button("Measure the predicted best within the size", id="measure", type="button"),
                html.Span("", id="measured", role="status"),
            ],
            className="row",
        ),
        html.H2("The front"),
        html.Div(front_lines(table), id="points"),
        dcc.Store(id="seen", data=_seen(version, loosest.max_bytes, loosest.quality, LINEAR, ())),
        clock("front-clock"),
    ]


def front_lines(table: FrontTable) -> Any:
    """The front as text, for keyboards and screen readers, with what the next point up costs."""
    lines: list[list[Any]] = []
    sign = OBJECTIVES[table.quality].sign
    for point, larger in zip(table.front, (*table.front[1:], None), strict=True):
        step = ""
        if larger is not None:
            gain = format_value(table.quality, sign * (point.quality - larger.quality))
            step = f"{gain} better for {format_bytes(larger.model_bytes - point.model_bytes)} more"
        notes = [point.label, "knee" if point.knee else "", "selected" if point.selected else ""]
        lines.append(
            [
                dcc.Link(f"trial {point.trial}", href=study_path(table.study, "plan", point.trial)),
                format_bytes(point.model_bytes),
                format_value(table.quality, point.quality),
                step,
                ", ".join(note for note in notes if note),
            ]
        )
    return table_of(("trial", "size", table.quality, "the next point up", ""), lines)


@dataclass(frozen=True)
class Controls:
    """How a person has set the page, and what the browser shows."""

    budget: float
    """Of the size slider; it ends at ``most_bytes``."""
    most_bytes: float
    bound: float
    """Of the quality slider; it goes from ``least`` to ``most``."""
    least: float
    most: float
    scale: str
    layers: Sequence[str]
    seen: Mapping[str, Any]
    """What the page shows, as ``shown`` has said."""

    def shown(self, version: str) -> dict[str, Any]:
        """What a page shows that has been drawn for these controls."""
        return _seen(version, self.budget, self.bound, self.scale, self.layers)

    def bounds(self, table: FrontTable) -> Bounds:
        """A slider at its end asks for nothing, also where the front has grown since."""
        loosest = Bounds.loosest(table)
        end = self.most if OBJECTIVES[table.quality].sign > 0 else self.least
        return Bounds(
            loosest.max_bytes if self.budget >= self.most_bytes else self.budget,
            loosest.quality if self.bound == end else self.bound,
        )


def shown_front(study: StoredStudy, controls: Controls, trigger: str | None) -> dict[str, Any]:
    """What changes on the page after ``trigger``: its clock, or a control.

    Dash drops the answer to one trigger where another comes before it. So what is to change follows from
    what the page shows, and not from the trigger.
    """
    records = study.records().answer
    version = version_of(study, records)
    if controls.seen == controls.shown(version):
        raise PreventUpdate
    table = front_table(study, records)
    bounds = controls.bounds(table)
    try:
        marked, best = best_within(table, bounds)
    except StudyError as error:
        marked, best = [], [html.P(str(error))]
    predicted: tuple[PredictedPoint, ...] = ()
    if PREDICTED in controls.layers:
        try:
            predicted = predict_front(study, records)
        except StudyError as error:
            best = [*best, html.P(str(error))]
    figure = new_data(front_figure(table, marked, predicted))
    if controls.scale != controls.seen["scale"]:
        _set_scale(figure, controls.scale)
    if trigger == "front-clock":
        rest = _grown(study, records, table, bounds) | {
            "seen": _seen(version, bounds.max_bytes, bounds.quality, controls.scale, controls.layers)
        }
    else:
        rest = _stays() | {"seen": controls.shown(controls.seen["version"])}
    return {"figure": figure, "best": best, **rest}


def _set_scale(figure: Patch, scale: str) -> None:
    figure["layout"]["xaxis"]["type"] = scale
    figure["layout"]["xaxis"]["autorange"] = True


def _stays() -> dict[str, Any]:
    """A slider moves many times a second: what does not depend on it stays."""
    stays = dict.fromkeys(SLIDER, no_update)
    return {"points": no_update, "verdict": no_update, "budget": stays, "bound": stays}


def _grown(study: StoredStudy, records: StudyRecords, table: FrontTable, bounds: Bounds) -> dict[str, Any]:
    return {
        "points": front_lines(table),
        "verdict": judge(study, records).sentence,
        "budget": bounds.size_slider(table),
        "bound": bounds.quality_slider(table),
    }


def _seen(version: str, budget: float, bound: float, scale: str, layers: Sequence[str]) -> dict[str, Any]:
    """What a page shows: a version of the study, drawn for these controls."""
    return {"version": version, "budget": budget, "bound": bound, "scale": scale, "layers": list(layers)}


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    _add_refresh(app, studies)

    @app.callback(
        Output("measured", "children"),
        Input("measure", "n_clicks"),
        State("budget", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def measure(clicks: int | None, budget: float, path: str) -> Any:
        if not clicks:
            return no_update
        try:
            point = measure_optimum(study_at(studies, path), int(budget))
        except StudyError as error:
            return str(error)
        return f"The predicted best plan of {format_bytes(point.model_bytes)} waits for a worker."

    @app.callback(
        Output("address", "pathname"),
        Input("front", "clickData"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def open_point(click: dict[str, Any] | None, path: str) -> Any:
        trial = click["points"][0].get("customdata") if click else None
        return no_update if trial is None else study_path(parts_of(path)[1], "plan", int(trial))


def _add_refresh(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        output={
            "figure": Output("front", "figure"),
            "best": Output("best", "children"),
            "points": Output("points", "children"),
            "verdict": Output("verdict", "children"),
            "seen": Output("seen", "data", allow_duplicate=True),
            "budget": {name: Output("budget", name) for name in SLIDER},
            "bound": {name: Output("bound", name) for name in SLIDER},
        },
        inputs={
            "_ticks": Input("front-clock", "n_intervals"),
            "path": State("address", "pathname"),
            "controls": {
                "budget": Input("budget", "value"),
                "most_bytes": State("budget", "max"),
                "bound": Input("bound", "value"),
                "least": State("bound", "min"),
                "most": State("bound", "max"),
                "scale": Input("scale", "value"),
                "layers": Input("layers", "value"),
                "seen": State("seen", "data"),
            },
        },
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str, controls: dict[str, Any]) -> dict[str, Any]:
        return shown_front(study_at(studies, path), Controls(**controls), ctx.triggered_id)
