"""What all figures have alike: one template for light and dark pages, and for paper.

Text is small and horizontal, lines of the grid too; series are named where they are, without a legend.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from jointsearch.dashboard.figures.look import Look
from jointsearch.front.objectives import BYTE_UNITS

DEFAULT_HEIGHT = 300
"""Pixels, of a figure that says nothing of it."""
TITLE_PIXELS = 34
FONT = "Inter, system-ui, sans-serif"


def font_size(look: Look) -> int:
    return 11 if look.phone else 12


def blank_figure(
    look: Look, title: str, x: str = "", y: str = "", height: int = DEFAULT_HEIGHT, **margin: int
) -> go.Figure:
    """Without a trace; its texts are escaped. ``title``: what it is, which is shown where no card says so;
    ``height`` in pixels, without the title."""
    margin = {"l": 48, "r": 12, "b": 40 if x else 24, **margin}
    margin["t"] = (32 if y else 8) + (TITLE_PIXELS if look.titled else 0)
    layout = _layout(look) | {
        "height": height + (TITLE_PIXELS if look.titled else 0),
        "margin": margin,
        "uirevision": title,  # keeps zoom and hidden traces when new data comes
    }
    if look.titled:
        layout["title"] = {
            "text": html.escape(title),
            "font": {"size": 15},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 12, "t": 10},
        }
    figure = go.Figure(layout=layout)
    font = {"size": font_size(look), "color": look.palette.soft}
    note = {"xref": "paper", "yref": "paper", "showarrow": False, "font": font}
    if y:
        upper = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(text=f"↑ {html.escape(y)}", yshift=8, xshift=4 - margin["l"], **upper, **note)
    if x:
        right = {"x": 1, "y": 0, "xanchor": "right", "yanchor": "top"}
        figure.add_annotation(text=f"{html.escape(x)} →", yshift=-20, **right, **note)
    return figure


def _layout(look: Look) -> dict[str, Any]:
    """Of every figure."""
    colours, size = look.palette, font_size(look)
    axis = {
        "gridcolor": colours.grid,
        "zeroline": False,
        "linecolor": colours.line,
        "ticks": "",
        "tickfont": {"size": size, "color": colours.soft},
    }
    return {
        "font": {"family": FONT, "size": size, "color": colours.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",  # the card's
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": colours.card,
            "bordercolor": colours.line,
            "font": {"color": colours.ink, "size": size, "family": FONT},
            "align": "left",
        },
        "xaxis": {**axis, "showgrid": False, "showline": True},
        "yaxis": axis,
    }


def byte_unit(values: Iterable[int]) -> tuple[str, int]:
    """The largest unit that the largest value fills."""
    largest = max(values, default=0)
    return next(((unit, size) for unit, size in reversed(BYTE_UNITS.items()) if largest >= size), ("B", 1))


@dataclass(frozen=True)
class LineEnd:
    """Where a line ends, and what it is called there."""

    x: Any
    y: float
    text: str
    colour: str


LINE_PIXELS = 17
"""Between the names of two lines."""


def name_lines(
    figure: go.Figure, ends: Sequence[LineEnd], span: tuple[float, float], pixels: float, look: Look
) -> None:
    """Write the names at the ends of lines, pushed apart; ``span``: of the y axis, ``pixels`` high."""
    low, high = span
    places = [pixels * (high - end.y) / ((high - low) or 1) for end in ends]
    order = sorted(range(len(ends)), key=lambda number: places[number])
    shown = dict(zip(order, apart([places[number] for number in order], pixels), strict=True))
    for number, end in enumerate(ends):
        figure.add_annotation(
            x=end.x,
            y=end.y,
            text=html.escape(end.text),
            showarrow=False,
            xanchor="left",
            xshift=6,
            yshift=places[number] - shown[number],
            font={"color": end.colour, "size": font_size(look)},
        )


def apart(places: Sequence[float], pixels: float) -> list[float]:
    """Rising places, moved so that they are ``LINE_PIXELS`` apart, and within ``pixels`` if they fit."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + LINE_PIXELS) if found else place)
    limit = pixels
    for number in reversed(range(len(found))):
        found[number] = min(found[number], limit)
        limit = found[number] - LINE_PIXELS
    return found
