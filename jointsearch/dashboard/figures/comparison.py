"""A comparison of named strategies: qualities over bytes, and differences to the reference."""

from __future__ import annotations

import html
from dataclasses import dataclass

import plotly.graph_objects as go

from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.style import blank_figure
from jointsearch.study.analysis.comparison import Comparison, is_better

HEIGHT = 450


@dataclass(frozen=True)
class ComparedPoint:
    """What is drawn of one row."""

    name: str
    megabytes: float
    mean: float
    error: float
    """Standard error of the mean; 0 where there is one seed alone."""
    difference: tuple[float, float, float] | None
    """Mean, low and high; None for the reference, or where no interval is known."""
    is_better: bool | None


def compared_points(comparison: Comparison) -> list[ComparedPoint]:
    """The rows that were measured."""
    found = []
    for row in comparison.rows:
        if row.mean is None:
            continue
        d = row.difference
        interval = None if d is None or d.low is None or d.high is None else (d.mean, d.low, d.high)
        found.append(
            ComparedPoint(
                name=row.name,
                megabytes=row.model_bytes / 1e6,
                mean=row.mean,
                error=row.standard_error or 0.0,
                difference=interval,
                is_better=is_better(comparison, row),
            )
        )
    return found


def quality_figure(comparison: Comparison, look: Look = PAPER) -> go.Figure:
    """Quality over bytes, with standard errors."""
    drawn = compared_points(comparison)
    colours = _colours(look)
    trace = go.Scatter(
        x=[point.megabytes for point in drawn],
        y=[point.mean for point in drawn],
        error_y={"array": [point.error for point in drawn]},
        text=[html.escape(point.name) for point in drawn],
        marker={"size": 9, "color": [colours[point.is_better] for point in drawn]},
        mode="markers+text",
        textposition="top center",
        textfont={"size": 9},
    )
    title = f"{comparison.quality}: mean over seeds, standard error"
    return blank_figure(look, title, "model size (MB)", comparison.quality, HEIGHT).add_trace(trace)


def _colours(look: Look) -> dict[bool | None, str]:
    """Better than the reference, worse, or not told apart."""
    return {True: look.palette.good, False: look.palette.bad, None: look.palette.grey}


def difference_figure(comparison: Comparison, look: Look = PAPER) -> go.Figure:
    """Differences to the reference with their intervals, one line each, in the order of the table."""
    drawn = [(point, point.difference) for point in compared_points(comparison) if point.difference]
    colours = _colours(look)
    trace = go.Scatter(
        x=[mean for _, (mean, _, _) in drawn],
        y=[html.escape(point.name) for point, _ in drawn],
        error_x={
            "symmetric": False,
            "array": [high - mean for _, (mean, _, high) in drawn],
            "arrayminus": [mean - low for _, (mean, low, _) in drawn],
        },
        marker={"size": 9, "color": [colours[point.is_better] for point, _ in drawn]},
        mode="markers",
    )
    title = f"Difference to {comparison.reference}, {comparison.confidence:.0%} interval"
    figure = blank_figure(look, title, comparison.quality, height=120 + 32 * len(drawn)).add_trace(trace)
    figure.add_vline(x=0.0, line={"color": look.palette.grey, "width": 1})
    return figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
