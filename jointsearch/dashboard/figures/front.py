"""The front: quality against bytes of the model, or of memory, with what is predicted."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from jointsearch.dashboard.data.against import ladder_of
from jointsearch.dashboard.figures.front_view import Bound, FrontView, names, short, steps, view_of
from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.style import blank_figure
from jointsearch.dashboard.words import axis_title, lower_or_higher, point_lines, unit_of
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.search.additive.predicted_front import CREDIBLE, PredictedPoint
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint

CHOSEN = "best within the bound"
MAX_HOVER_TEXTS = 60
"""Points of more than these say their numbers alone: a thousand texts are most of a page."""


def front_figure(
    table: FrontTable,
    choice: int | None = None,
    bound: Bound | None = None,
    predicted: Sequence[PredictedPoint] = (),
    *,
    log_bytes: bool = False,
    look: Look = PAPER,
) -> go.Figure:
    """Quality against bytes; ``choice``: the trial of the plan to ring, ``bound``: what it was chosen by."""
    if not table.points:
        return blank_figure(look, table.study, axis_title(table.axis), table.quality)
    view = view_of(table, look, log_bytes=log_bytes)
    better = f"{unit_of(table.quality)}; {lower_or_higher(table.quality)} is better"
    height = int(view.plot.height) + 72
    figure = blank_figure(look, table.study, f"{axis_title(table.axis)} ({view.unit})", better, height)
    colours = look.palette
    if predicted:
        figure.add_traces(_predicted(table, predicted, view, look))
    rest = [point for point in table.points if not point.on_front and not point.baseline]
    edge = {"width": 1.5, "color": colours.card}
    named = [point for point in table.points if point.baseline]
    grey = {"color": colours.grey, "size": 4, "opacity": 0.5}
    figure.add_trace(_points(table, rest, "dominated", view, {"mode": "markers", "marker": grey}))
    symbol = "circle" if table.long_steps is None else "square"
    blue = {"color": colours.blue, "size": 8, "symbol": symbol, "line": edge}
    line = {"color": colours.blue, "width": 1.5, "shape": "hv"}
    front_style = {"mode": "lines+markers", "line": line, "marker": blue}
    figure.add_trace(_points(table, table.front, "front", view, front_style))
    corners = steps(view, ladder_of(table))
    dotted = {"color": colours.ref, "width": 1, "dash": "dot"}
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in corners],
            y=[short(y) for _, y in corners],
            name="the best without a search",
            mode="lines",
            line=dotted,
            hoverinfo="skip",
        )
    )
    ink = {"color": colours.ref, "size": 9, "symbol": "diamond", "line": edge}
    figure.add_trace(_points(table, named, "named plans", view, {"mode": "markers", "marker": ink}))
    figure.add_trace(_ring(table, choice, view, look))
    figure.update_layout(clickmode="event", shapes=shapes(view, bound, look), dragmode="zoom")
    titles = figure.layout.annotations
    figure.update_layout(annotations=[*titles, *names(table, view, choice, bound, look)])
    figure.update_xaxes(range=list(view.plot.x_range), nticks=6, type="log" if log_bytes else None)
    return figure.update_yaxes(range=list(view.plot.y_range), nticks=6)


def shapes(view: FrontView, bound: Bound | None, look: Look) -> list[dict[str, Any]]:
    """The search's limit is a line; what lies beyond a person's bound is shaded."""
    colours, plot = look.palette, view.plot
    upright: dict[str, Any] = {"yref": "paper", "y0": 0, "y1": 1}
    found: list[dict[str, Any]] = []
    if view.limit is not None:
        line = {"color": colours.warn, "width": 1.5, "dash": "dash"}
        found.append({"type": "line", "line": line, **upright, "x0": view.limit, "x1": view.limit})
    if bound is None:
        return found
    dotted = {"type": "line", "line": {"color": colours.soft, "width": 1.5, "dash": "dot"}}
    if bound.by == "quality":
        return [*found, {**dotted, "xref": "paper", "x0": 0, "x1": 1, "y0": bound.value, "y1": bound.value}]
    x = view.size(bound.value)
    end = 10 ** plot.x_range[1] if plot.is_log else plot.x_range[1]
    shade = {"fillcolor": colours.grid, "opacity": 0.65, "line": {"width": 0}, "layer": "below"}
    found.append({"type": "rect", **shade, **upright, "x0": x, "x1": max(x, end)})
    return [*found, {**dotted, **upright, "x0": x, "x1": x}]


def _ring(table: FrontTable, choice: int | None, view: FrontView, look: Look) -> go.Scatter:
    points = [point for point in table.points if point.trial == choice]
    width = {"width": 2.5, "color": look.palette.blue}
    return go.Scatter(
        x=[view.place(point)[0] for point in points],
        y=[point.quality for point in points],
        customdata=[point.trial for point in points],
        name=CHOSEN,
        mode="markers",
        marker={"symbol": "circle-open", "size": 24, "color": look.palette.blue, "line": width},
        hoverinfo="skip",
    )


def _predicted(
    table: FrontTable, points: Sequence[PredictedPoint], view: FrontView, look: Look
) -> list[go.Scatter]:
    """The front of the search's model, and its credible band."""
    sizes = [view.size(point.model_bytes) for point in points]
    band = go.Scatter(
        x=[*sizes, *reversed(sizes)],
        y=[*(point.low for point in points), *(point.high for point in reversed(points))],
        name=f"predicted, {CREDIBLE:.0%} credible",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=look.palette.band,
        hoverinfo="skip",
    )
    line = go.Scatter(
        x=sizes,
        y=[point.quality for point in points],
        name="predicted",
        mode="lines",
        line={"color": look.palette.blue, "width": 1, "dash": "dash"},
        text=[
            f"{format_value(table.quality, point.quality)} at {format_bytes(point.model_bytes)}"
            for point in points
        ],
        hovertemplate="predicted: %{text}<extra></extra>",
    )
    return [band, line]


def _points(
    table: FrontTable, points: Sequence[PlanPoint], name: str, view: FrontView, style: Mapping[str, Any]
) -> go.Scatter:
    errors = [None if p.standard_error is None else round(p.standard_error, 5) for p in points]
    texts: dict[str, Any] = {
        "hovertemplate": f"trial %{{customdata}}<br>%{{x}} {view.unit}, {html.escape(table.quality)} %{{y}}"
        "<extra></extra>"
    }
    if len(points) <= MAX_HOVER_TEXTS:
        lines = ["<br>".join(map(html.escape, point_lines(table, point))) for point in points]
        texts = {"hovertext": lines, "hovertemplate": "%{hovertext}<extra></extra>"}
    error_y: dict[str, Any] = {"type": "data", "array": errors, "thickness": 1.4, "width": 3}
    return go.Scatter(
        x=[view.place(point)[0] for point in points],
        y=[short(point.quality) for point in points],
        error_y=error_y if any(errors) else None,
        customdata=[point.trial for point in points],
        name=name,
        **texts,
        **style,
    )
