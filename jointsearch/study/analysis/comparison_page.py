"""A comparison as one HTML page with its plots in it: it needs nothing from the network."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from jointsearch.study.analysis.comparison import Comparison, is_better
from jointsearch.study.analysis.comparison_formats import caption, cells, columns

STYLE = """
body { font-family: sans-serif; margin: 2em auto; max-width: 80em; color: #222; }
table { border-collapse: collapse; font-size: 0.9em; }
th, td { padding: 0.3em 0.7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td:last-child { text-align: left; }
"""
COLOURS = {True: "#009e73", False: "#d55e00", None: "#777777"}
"""Better than the reference, worse, or not told apart."""


@dataclass(frozen=True)
class Point:
    """What is drawn of one row."""

    name: str
    megabytes: float
    mean: float
    error: float
    """Standard error of the mean; 0 where there is one seed alone."""
    difference: tuple[float, float, float] | None
    """Mean, low and high; None for the reference, or where no interval is known."""
    is_better: bool | None


def points(comparison: Comparison) -> list[Point]:
    """The rows that were measured."""
    found = []
    for row in comparison.rows:
        if row.mean is None:
            continue
        d = row.difference
        interval = None if d is None or d.low is None or d.high is None else (d.mean, d.low, d.high)
        found.append(
            Point(
                name=row.name,
                megabytes=row.model_bytes / 1e6,
                mean=row.mean,
                error=row.standard_error or 0.0,
                difference=interval,
                is_better=is_better(comparison, row),
            )
        )
    return found


def quality_figure(comparison: Comparison) -> Any:
    """Quality over bytes, with standard errors."""
    drawn = points(comparison)
    return _figure(
        [
            {
                "x": [point.megabytes for point in drawn],
                "y": [point.mean for point in drawn],
                "error_y": {"array": [point.error for point in drawn]},
                "text": [point.name for point in drawn],
                "marker": {"size": 9, "color": [COLOURS[point.is_better] for point in drawn]},
                "mode": "markers+text",
                "textposition": "top center",
                "textfont": {"size": 9},
            }
        ],
        "model bytes (MB)",
        f"{comparison.quality}: mean over seeds, standard error",
        height=460,
    )


def difference_figure(comparison: Comparison) -> Any:
    """Differences to the reference with their intervals, one line each."""
    drawn = [(point, point.difference) for point in points(comparison) if point.difference]
    figure = _figure(
        [
            {
                "x": [mean for _, (mean, _, _) in drawn],
                "y": [point.name for point, _ in drawn],
                "error_x": {
                    "symmetric": False,
                    "array": [high - mean for _, (mean, _, high) in drawn],
                    "arrayminus": [mean - low for _, (mean, low, _) in drawn],
                },
                "marker": {"size": 9, "color": [COLOURS[point.is_better] for point, _ in drawn]},
                "mode": "markers",
            }
        ],
        f"{comparison.quality}: difference to {comparison.reference}, {comparison.confidence:.0%} interval",
        "",
        height=120 + 32 * len(drawn),
    )
    figure.update_yaxes(autorange="reversed")  # in the order of the table
    figure.add_vline(x=0.0, line={"color": "#222", "width": 1})
    return figure


def page(comparison: Comparison) -> str:
    """The whole page."""
    figures = [quality_figure(comparison), difference_figure(comparison)]
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=position == 0, div_id=f"figure-{position}")
        for position, figure in enumerate(figures)
    ]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in columns(comparison))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in cells(comparison)
    )
    title = escape(f"Strategies compared: {comparison.study}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><p>{escape(caption(comparison))}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{''.join(drawn)}</body></html>\n"
    )


def _figure(traces: list[dict[str, Any]], x: str, y: str, height: int) -> Any:
    import plotly.graph_objects as go  # takes a moment, for which only this format waits

    figure = go.Figure([go.Scatter(**trace) for trace in traces])
    figure.update_layout(
        template="simple_white", height=height, showlegend=False, xaxis_title=x, yaxis_title=y
    )
    return figure
