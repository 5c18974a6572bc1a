"""A plan: what it says of every module, where its bytes go, and its losses."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from jointsearch.dashboard.data.plan import PlanTable
from jointsearch.dashboard.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    blank_figure,
    byte_unit,
)
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.formats import by_precision

FORMAT_COLOURS = {"nf4": SKY, "int8": ORANGE, "16bit": BLUE}
OTHER_COLOURS = (GREEN, PURPLE, YELLOW, VERMILION)
"""Of formats that other packages bring."""


def plan_figure(table: PlanTable) -> go.Figure:
    """A heat map: blocks down, modules across, the format by colour, rank by number."""
    shown = {cell.format: cell.shown_format for cell in table.cells}
    used = by_precision(shown)
    cells = {(cell.block, cell.column): cell for cell in table.cells}
    grid = [[cells.get((block, column)) for column in table.columns] for block in table.blocks]
    figure = blank_figure(f"Trial {table.point.trial}: bits (colour) and rank (number)", "", "")
    figure.add_trace(
        go.Heatmap(
            x=[html.escape(column) for column in table.columns],
            y=[html.escape(block) for block in table.blocks],
            z=[[None if cell is None else used.index(cell.format) for cell in row] for row in grid],
            text=[["" if cell is None else str(cell.rank) for cell in row] for row in grid],
            texttemplate="%{text}",
            textfont={"color": "black", "size": 14},
            customdata=[
                ["" if cell is None else html.escape(cell.shown_format) for cell in row] for row in grid
            ],
            hovertemplate="%{y} %{x}: %{customdata}, rank %{text}<extra></extra>",
            hoverongaps=False,
            zmin=-0.5,
            zmax=len(used) - 0.5,
            colorscale=_steps([_light(colour) for colour in _colours(used)]),
            colorbar={
                "tickvals": list(range(len(used))),
                "ticktext": [html.escape(shown[name]) for name in used],
            },
            xgap=2,
            ygap=2,
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def parts_figure(table: PlanTable) -> go.Figure:
    """Where the bytes go."""
    unit, size = byte_unit(table.bytes_by_part.values())
    parts = sorted(table.bytes_by_part.items(), key=lambda item: item[1])
    figure = blank_figure("Bytes by part", f"size ({unit})", "")
    figure.add_trace(
        go.Bar(
            x=[num_bytes / size for _, num_bytes in parts],
            y=[part for part, _ in parts],
            text=[format_bytes(num_bytes) for _, num_bytes in parts],
            orientation="h",
            marker_color=SKY,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    return figure


def loss_figure(table: PlanTable) -> go.Figure:
    """Training and validation loss over the steps of the calibration."""
    figure = blank_figure("Calibration", "step", "loss (nats)")
    for name, losses, colour, dash in (
        ("training", table.train_losses, GREY, "dot"),
        ("validation", table.validation_losses, BLUE, "solid"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[point.step for point in losses],
                y=[point.loss for point in losses],
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
            )
        )
    return figure


def _colours(formats: Sequence[str]) -> list[str]:
    others = cycle(OTHER_COLOURS)
    return [FORMAT_COLOURS.get(name) or next(others) for name in formats]


def _light(colour: str) -> str:
    """The colour halfway to white, on which black numbers can be read."""
    channels = (int(colour[position : position + 2], 16) for position in (1, 3, 5))
    return "#" + "".join(f"{(channel + 255) // 2:02x}" for channel in channels)


def _steps(colours: list[str]) -> list[list[object]]:
    """A colour scale without mixtures."""
    count = len(colours)
    return [[(i + end) / count, colour] for i, colour in enumerate(colours) for end in (0, 1)]
