"""Trials as lines between parallel axes: those that the table shows over the rest.

Two lines of SVG in all, broken between trials: thousands of them stay light, and no WebGL is needed. The
browser moves trials between both as the table is filtered (``assets/look.js``).
"""

from __future__ import annotations

import html
from collections.abc import Iterable

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
    for position, axis in enumerate(axes):
        _draw_axis(figure, position, axis, look)
    margin = dict(figure.layout.margin.to_plotly_json()) | {"t": figure.layout.margin.t + 48}
    figure.update_layout(margin=margin, dragmode=False)
    figure.update_xaxes(visible=False, range=[-0.2, len(axes) - 0.8], fixedrange=True)
    return figure.update_yaxes(visible=False, range=[-0.06, 1.06], fixedrange=True)


def _draw_axis(figure: go.Figure, position: int, axis: Axis, look: Look) -> None:
    colours = look.palette
    line = {"color": colours.soft, "width": 1}
    figure.add_shape(type="line", x0=position, x1=position, y0=0, y1=1, line=line)
    title = "<br>".join(html.escape(word) for word in axis.title.split())
    figure.add_annotation(
        x=position,
        y=1.06,
        text=title,
        yanchor="bottom",
        showarrow=False,
        font={"size": 11, "color": colours.ink},
    )
    for place, value in ((0, axis.low), (1, axis.high)):
        figure.add_annotation(
            x=position,
            y=place,
            text=f"{value:.4g}",
            xshift=-5,
            xanchor="right",
            showarrow=False,
            bgcolor=colours.card,
            borderpad=1,
            font={"size": 11, "color": colours.soft},
        )
