"""The front: quality against bytes, with what is predicted."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from jointsearch.dashboard.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    blank_figure,
    byte_unit,
)
from jointsearch.dashboard.words import point_lines
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.search.additive.predicted_front import CREDIBLE, PredictedPoint
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint

NAMED = {
    "mode": "markers+text",
    "textposition": "top center",
    "textfont": {"size": 10},
    "marker": {"color": VERMILION, "symbol": "diamond", "size": 10},
}
STYLES: dict[str, dict[str, Any]] = {
    "dominated": {"mode": "markers", "marker": {"color": GREY, "size": 6, "opacity": 0.35}},
    "front": {"mode": "lines+markers", "line": {"color": BLUE}, "marker": {"color": BLUE, "size": 9}},
}
RINGS = {
    "knee": (GREEN, "square-open"),
    "selected": (PURPLE, "star-open"),
    "best within the bounds": (ORANGE, "circle-open"),
}
"""Colour and symbol of what surrounds a point."""


def front_figure(
    table: FrontTable,
    marked: Iterable[int] = (),
    predicted: Sequence[PredictedPoint] = (),
    *,
    log_bytes: bool = False,
) -> go.Figure:
    """Quality against bytes; ``marked`` are trials to ring, such as the best within a budget."""
    unit, size = byte_unit(point.model_bytes for point in table.points)
    figure = blank_figure(table.study, f"model size ({unit})", table.quality)
    dominated = [point for point in table.points if not point.on_front and not point.baseline]
    baselines = [point for point in table.points if point.baseline]
    named = {**NAMED, "text": [html.escape(point.label) for point in baselines]}
    figure.add_trace(_points(table, dominated, "dominated", size, STYLES["dominated"]))
    figure.add_trace(_points(table, table.front, "front", size, STYLES["front"]))
    figure.add_trace(_points(table, baselines, "named plans", size, named))
    figure.add_traces(_rings(table, set(marked), size))
    if predicted:
        figure.add_traces(_predicted(table, predicted, size))
    figure.update_layout(hovermode="closest", clickmode="event+select")
    if log_bytes:
        figure.update_xaxes(type="log")
    return figure


def _rings(table: FrontTable, marked: set[int], size: int) -> list[go.Scatter]:
    ringed = {
        "knee": [point for point in table.points if point.knee],
        "selected": [point for point in table.points if point.selected],
        "best within the bounds": [point for point in table.points if point.trial in marked],
    }
    traces = []
    for name, points in ringed.items():
        colour, symbol = RINGS[name]
        marker = {"color": colour, "symbol": symbol, "size": 18, "line": {"width": 3}}
        style = {"mode": "markers", "marker": marker}
        traces.append(_points(table, points, name, size, style, with_errors=False))
    return traces


def _predicted(table: FrontTable, points: Sequence[PredictedPoint], size: int) -> list[go.Scatter]:
    """The front of the search's model, and its credible band."""
    sizes = [point.model_bytes / size for point in points]
    band = go.Scatter(
        x=[*sizes, *reversed(sizes)],
        y=[*(point.low for point in points), *(point.high for point in reversed(points))],
        name=f"predicted, {CREDIBLE:.0%} credible",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor="rgba(230, 159, 0, 0.2)",
        hoverinfo="skip",
    )
    line = go.Scatter(
        x=sizes,
        y=[point.quality for point in points],
        name="predicted",
        mode="lines",
        line={"color": ORANGE, "dash": "dash"},
        text=[
            f"{format_value(table.quality, point.quality)} at {format_bytes(point.model_bytes)}"
            for point in points
        ],
        hovertemplate="predicted: %{text}<extra></extra>",
    )
    return [band, line]


def _points(
    table: FrontTable,
    points: Iterable[PlanPoint],
    name: str,
    size: int,
    style: Mapping[str, Any],
    *,
    with_errors: bool = True,
) -> go.Scatter:
    points = list(points)
    errors = [point.standard_error or 0.0 for point in points]
    return go.Scatter(
        x=[point.model_bytes / size for point in points],
        y=[point.quality for point in points],
        error_y={"type": "data", "array": errors, "visible": with_errors and any(errors)},
        customdata=[point.trial for point in points],
        hovertext=["<br>".join(map(html.escape, point_lines(table, point))) for point in points],
        hovertemplate="%{hovertext}<extra></extra>",
        name=name,
        **style,
    )
