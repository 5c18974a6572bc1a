"""Trials as lines between parallel axes: those that the table shows over the rest.

Two lines of SVG in all, broken between trials: thousands of them stay light, and no WebGL is needed. The
browser moves trials between both as the table is filtered (``assets/look.js``).
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

from jointsearch.dashboard.data.trials import Axis, TrialsTable
from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.style import blank_figure

HEIGHT = 290
PHONE_AXES = 4


def parallel_figure(table: TrialsTable, shown: Iterable[int], look: Look = PAPER) -> go.Figure:
    """``shown``: the trials in the foreground."""
    front = set(shown)
    figure = blank_figure(look, "How the plans differ", height=HEIGHT, l=44, r=28, b=12)
    axes = table.axes[:PHONE_AXES] if look.phone else table.axes
    colours = look.palette
    for name, trials, colour, width, opacity in (
        ("the rest", [t for t in table.lines if t not in front], colours.grey, 1, 0.25),
        ("shown", [t for t in table.lines if t in front], colours.blue, 1.6, 0.8),
    ):
        x: list[int | None] = []
        y: list[float | None] = []
        for trial in trials:
            x += [*range(len(axes)), None]
            y += [*table.lines[trial][: len(axes)], None]
        line = {"color": colour, "width": width}
        figure.add_trace(
            go.Scatter(x=x, y=y, name=name, mode="lines", line=line, opacity=opacity, hoverinfo="skip")
        )
    margin = dict(figure.layout.margin.to_plotly_json()) | {"t": figure.layout.margin.t + 48}
    # all at once: Plotly checks a whole figure for each one that is added
    figure.update_layout(
        margin=margin,
        dragmode=False,
        shapes=[_upright(position, look) for position in range(len(axes))],
        annotations=[
            text for position, axis in enumerate(axes) for text in _axis_texts(position, axis, look)
        ],
    )
    figure.update_xaxes(visible=False, range=[-0.2, len(axes) - 0.8], fixedrange=True)
    return figure.update_yaxes(visible=False, range=[-0.06, 1.06], fixedrange=True)


def _upright(position: int, look: Look) -> dict[str, Any]:
    line = {"color": look.palette.soft, "width": 1}
    return {"type": "line", "x0": position, "x1": position, "y0": 0, "y1": 1, "line": line}


def _axis_texts(position: int, axis: Axis, look: Look) -> list[dict[str, Any]]:
    """Its title, and its ends."""
    colours = look.palette
    title: dict[str, Any] = {
        "x": position,
        "y": 1.06,
        "text": "<br>".join(html.escape(word) for word in axis.title.split()),
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11, "color": colours.ink},
    }
    ends = [
        {
            "x": position,
            "y": place,
            "text": f"{value:.4g}",
            "xshift": -5,
            "xanchor": "right",
            "showarrow": False,
            "bgcolor": colours.card,
            "borderpad": 1,
            "font": {"size": 11, "color": colours.soft},
        }
        for place, value in ((0, axis.low), (1, axis.high))
    ]
    return [title, *ends]
