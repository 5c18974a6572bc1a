"""What all figures have alike.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which the colour-blind tell apart.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

import plotly.graph_objects as go

from jointsearch.front.objectives import BYTE_UNITS

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#7F7F7F",
)
DEFAULT_HEIGHT = 450
"""Pixels, of a figure that says nothing of it."""


def blank_figure(title: str, x: str, y: str) -> go.Figure:
    """Without a trace; its texts are escaped."""
    return go.Figure(
        layout={
            "title": {"text": html.escape(title)},
            "xaxis": {"title": {"text": x}, "automargin": True},
            "yaxis": {"title": {"text": y}, "automargin": True},
            "template": "plotly_white",
            "paper_bgcolor": "rgba(0,0,0,0)",  # the page's, which may be dark; the rest is in style.css
            "plot_bgcolor": "rgba(0,0,0,0)",
            "legend": {"orientation": "h", "y": -0.2},
            "margin": {"l": 40, "r": 20, "t": 50, "b": 40},
            "uirevision": title,  # keeps zoom and hidden traces when new data comes
        }
    )


def tall(figure: go.Figure, num_lines: int) -> go.Figure:
    """High enough for every line's name; the first one on top."""
    figure.update_layout(height=max(DEFAULT_HEIGHT, 150 + 22 * num_lines))
    return figure.update_yaxes(type="category", autorange="reversed", dtick=1)


def byte_unit(values: Iterable[int]) -> tuple[str, int]:
    """The largest unit that the largest value fills."""
    largest = max(values, default=0)
    return next(((unit, size) for unit, size in reversed(BYTE_UNITS.items()) if largest >= size), ("B", 1))
