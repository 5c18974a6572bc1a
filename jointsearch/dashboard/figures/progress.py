"""How a search goes: what its front dominates, who has done what, and where the time goes."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from jointsearch.dashboard.data.progress import ProgressTable
from jointsearch.dashboard.figures.style import BLUE, GREEN, ORANGE, VERMILION, blank_figure

STATE_COLOURS = {"complete": BLUE, "pruned": ORANGE, "failed": VERMILION}
STATE_SYMBOLS = {"complete": "circle", "pruned": "triangle-down", "failed": "x"}


def hypervolume_figure(table: ProgressTable) -> go.Figure:
    """The dominated share of the box over the trials."""
    figure = blank_figure("Hypervolume", "trial", "that of the uniform plans = 1")
    figure.add_trace(
        go.Scatter(
            x=[trial for trial, _ in table.hypervolume],
            y=[share for _, share in table.hypervolume],
            mode="lines",
            line={"color": BLUE, "shape": "hv"},
            hovertemplate="trial %{x}: %{y:.3f}<extra></extra>",
        )
    )
    return figure


def timeline_figure(table: ProgressTable) -> go.Figure:
    """When each worker finished its trials."""
    figure = blank_figure("Trials over time", "", "")
    for state, colour in STATE_COLOURS.items():
        trials = [trial for trial in table.timeline if trial.state == state]
        figure.add_trace(
            go.Scatter(
                x=[trial.ended for trial in trials],
                y=[html.escape(trial.worker) for trial in trials],
                name=state,
                mode="markers",
                marker={"color": colour, "symbol": STATE_SYMBOLS[state], "size": 9},
                customdata=[(t.trial, (t.ended - t.started).total_seconds()) for t in trials],
                hovertemplate="trial %{customdata[0]}, %{customdata[1]:.1f} s<extra>%{y}</extra>",
            )
        )
    figure.update_yaxes(type="category")
    return figure


def phases_figure(table: ProgressTable) -> go.Figure:
    """What a trial spends its time on."""
    figure = blank_figure("Seconds by phase, median of the trials", "seconds", "")
    figure.add_trace(
        go.Bar(
            x=list(table.seconds_by_phase.values()),
            y=[html.escape(phase) for phase in table.seconds_by_phase],
            orientation="h",
            marker_color=GREEN,
        )
    )
    return figure
