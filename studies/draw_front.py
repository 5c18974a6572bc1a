"""Draws a study's front as an SVG: quality against bytes, uniform plans as labelled crosses.

    jointsearch front quickstart --format csv > front.csv
    python studies/draw_front.py front.csv front.svg

Needs kaleido (the extra ``plot``) and a Chrome or Chromium.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import plotly.graph_objects as go

MEGABYTE = 1e6


def draw(rows: list[dict[str, str]]) -> go.Figure:
    """A figure of the rows that ``jointsearch front --format csv`` prints."""
    quality = next(name for name in rows[0] if name not in ("trial", "on_front"))
    front = [row for row in rows if row["on_front"] == "True"]
    uniform = [row for row in rows if row["label"]]

    def points(some: list[dict[str, str]]) -> dict[str, list[float]]:
        return {
            "x": [int(row["model_bytes"]) / MEGABYTE for row in some],
            "y": [float(row[quality]) for row in some],
        }

    figure = go.Figure()
    figure.add_scatter(
        **points(front),
        mode="lines+markers",
        name="Pareto front",
        line={"shape": "hv", "color": "#0072b2"},
        marker={"size": 8},
    )
    figure.add_scatter(
        **points(uniform),
        mode="markers+text",
        name="uniform plan",
        text=[row["label"].removeprefix("uniform ") for row in uniform],
        textposition="top right",
        textfont={"size": 11},
        marker={"symbol": "x", "size": 9, "color": "#d55e00"},
    )
    figure.update_layout(
        template="simple_white",
        width=760,
        height=420,
        margin={"l": 60, "r": 40, "t": 20, "b": 50},
        xaxis={"title": "model bytes (MB)", "range": [0.6, 4.4]},
        yaxis={"title": f"validation {quality}"},
        legend={"x": 0.99, "y": 0.99, "xanchor": "right"},
    )
    return figure


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with source.open(newline="") as file:
        figure = draw(list(csv.DictReader(file)))
    figure.write_image(target)


if __name__ == "__main__":
    main()
