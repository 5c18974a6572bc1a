"""How a search goes: what its front dominates, who has done what, and where the time goes."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from jointsearch.dashboard.data.progress import ProgressTable
from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.style import blank_figure

HEIGHT = 250
ROW_PIXELS = 34
STATE_SYMBOLS = {"complete": "circle", "pruned": "triangle-down", "failed": "x"}


def hypervolume_figure(table: ProgressTable, look: Look = PAPER) -> go.Figure:
    """The dominated share of the box over the trials."""
    figure = blank_figure(look, "Hypervolume", "trial", "that of the uniform plans = 1", HEIGHT)
    figure.add_trace(
        go.Scatter(
            x=[trial for trial, _ in table.hypervolume],
            y=[share for _, share in table.hypervolume],
            mode="lines",
            line={"color": look.palette.blue, "width": 2, "shape": "hv"},
            hovertemplate="trial %{x}: %{y:.3f}<extra></extra>",
        )
    )
    shares = [share for trial, share in table.hypervolume if trial >= (table.search_began or 0)]
    if table.search_began is None or not shares:
        return figure.update_yaxes(nticks=5)
    # what uniform plans have brought is a cliff beside what a search can add
    margin = 0.25 * (max(shares) - min(shares)) or 0.05
    mark = {"color": look.palette.soft, "width": 1, "dash": "dot"}
    figure.add_vline(x=table.search_began, line=mark)
    figure.add_annotation(
        x=table.search_began,
        y=1,
        yref="paper",
        text="search begins",
        showarrow=False,
        xanchor="left",
        yanchor="top",
        xshift=6,
        font={"color": look.palette.soft},
    )
    return figure.update_yaxes(range=[min(shares) - margin, max(shares) + margin], nticks=5)


def timeline_figure(table: ProgressTable, look: Look = PAPER) -> go.Figure:
    """When each worker finished its trials."""
    colours = look.palette
    by_state = {"complete": colours.blue, "pruned": colours.warn, "failed": colours.bad}
    workers = len({trial.worker for trial in table.timeline})
    figure = blank_figure(look, "Trials over time", height=72 + ROW_PIXELS * max(workers, 1), b=32)
    for state, colour in by_state.items():
        trials = [trial for trial in table.timeline if trial.state == state]
        figure.add_trace(
            go.Scatter(
                x=[trial.ended for trial in trials],
                y=[html.escape(trial.worker) for trial in trials],
                name=state,
                mode="markers",
                marker={"color": colour, "symbol": STATE_SYMBOLS[state], "size": 8},
                customdata=[(t.trial, round((t.ended - t.started).total_seconds(), 2)) for t in trials],
                hovertemplate="trial %{customdata[0]}, %{x}, %{customdata[1]:.1f} s<extra>%{y}</extra>",
            )
        )
    figure.update_xaxes(tickformat=_clock(table), nticks=4 if look.phone else 8)
    return figure.update_yaxes(type="category", automargin=True, showgrid=False)


def _clock(table: ProgressTable) -> str:
    """How times are written: as exactly as their span asks for, on one line."""
    ends = [trial.ended for trial in table.timeline]
    span = (max(ends) - min(ends)).total_seconds() if ends else 0.0
    return "%H:%M:%S" if span < 600 else "%H:%M" if span < 86_400 else "%d %b %H:%M"


def phases_figure(table: ProgressTable, look: Look = PAPER) -> go.Figure:
    """What a trial spends its time on."""
    height = 60 + ROW_PIXELS * max(len(table.seconds_by_phase), 1)
    figure = blank_figure(look, "Seconds by phase, median of the trials", "seconds", height=height)
    figure.add_trace(
        go.Bar(
            x=list(table.seconds_by_phase.values()),
            y=[html.escape(phase) for phase in table.seconds_by_phase],
            orientation="h",
            marker_color=look.palette.bits[1],
        )
    )
    return figure.update_yaxes(automargin=True, showgrid=False)
