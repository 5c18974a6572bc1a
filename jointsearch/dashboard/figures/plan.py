"""A plan: what it says of every module, where its bytes go, and its losses."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from jointsearch.dashboard.data.losses import LossLine
from jointsearch.dashboard.data.plan import PlanMemory, PlanTable
from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.style import LineEnd, blank_figure, byte_unit, name_lines
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.formats import by_precision

CELL_PIXELS = 26
BAR_PIXELS = 30
LOSS_PIXELS = 270
NAME_PIXELS = 96
"""On the right of lines, for their names."""
PHONE_NAME = 14
"""Characters of a name there."""


def plan_figure(table: PlanTable, look: Look = PAPER) -> go.Figure:
    """A heat map: blocks down, modules across, the format by colour, rank by number."""
    shown = {cell.format: cell.shown_format for cell in table.cells}
    used = by_precision(shown)
    cells = {(cell.block, cell.column): cell for cell in table.cells}
    grid = [[cells.get((block, column)) for column in table.columns] for block in table.blocks]
    title = f"Trial {table.point.trial}: bits (colour) and rank (number)"
    figure = blank_figure(look, title, height=60 + CELL_PIXELS * len(table.blocks))
    figure.add_trace(
        go.Heatmap(
            x=[html.escape(column) for column in table.columns],
            y=[html.escape(block) for block in table.blocks],
            z=[[None if cell is None else used.index(cell.format) for cell in row] for row in grid],
            text=[["" if cell is None else str(cell.rank) for cell in row] for row in grid],
            texttemplate="%{text}",
            textfont={"size": 12},
            customdata=[
                ["" if cell is None else html.escape(cell.shown_format) for cell in row] for row in grid
            ],
            hovertemplate="%{y} %{x}: %{customdata}, rank %{text}<extra></extra>",
            hoverongaps=False,
            zmin=-0.5,
            zmax=len(used) - 0.5,
            colorscale=_steps(_colours(len(used), look)),
            colorbar={
                "tickvals": list(range(len(used))),
                "ticktext": [html.escape(shown[name]) for name in used],
                "outlinewidth": 0,
                "thickness": 12,
            },
            xgap=2,
            ygap=2,
        )
    )
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, showgrid=False)
    return figure.update_xaxes(type="category", automargin=True, showline=False)


def parts_figure(table: PlanTable, look: Look = PAPER) -> go.Figure:
    """Where the bytes go."""
    return _bars("Bytes by part", "size", table.bytes_by_part, look)


def memory_figure(memory: PlanMemory, look: Look = PAPER) -> go.Figure:
    """Where the memory of training goes, as it is foretold."""
    title = f"Training memory by part, foretold for {memory.conditions}"
    return _bars(title, "memory", memory.parts, look)


def _bars(title: str, what: str, by_part: Mapping[str, int], look: Look) -> go.Figure:
    unit, size = byte_unit(by_part.values())
    parts = sorted(by_part.items(), key=lambda item: item[1])
    figure = blank_figure(look, title, f"{what} ({unit})", height=60 + BAR_PIXELS * len(parts))
    figure.add_trace(
        go.Bar(
            x=[num_bytes / size for _, num_bytes in parts],
            y=[part for part, _ in parts],
            text=[format_bytes(num_bytes) for _, num_bytes in parts],
            orientation="h",
            marker_color=look.palette.bits[1],
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    return figure.update_yaxes(automargin=True, showgrid=False)


def loss_figure(lines: Sequence[LossLine], look: Look = PAPER) -> go.Figure:
    """Validation loss over the steps, on a logarithmic axis; the last line is drawn above the others."""
    figure = blank_figure(
        look, "Validation loss", "training step", "validation loss (nats)", LOSS_PIXELS, r=NAME_PIXELS
    )
    colours = look.palette
    styles = {
        "plan": {"color": colours.blue, "width": 2},
        "longer": {"color": colours.blue, "width": 2, "dash": "dot"},
        "full": {"color": colours.good, "width": 2},
        "rival": {"color": colours.ref, "width": 2},
        "trial": {"color": colours.blue, "width": 1.5, "dash": "dot"},
        "rival's trial": {"color": colours.ref, "width": 1.5, "dash": "dot"},
    }
    ends = []
    for line in lines:
        points = [point for point in line.points if point.step > 0]
        if not points:
            continue
        style: dict[str, Any] = styles[line.kind]
        figure.add_trace(
            go.Scatter(
                x=[point.step for point in points],
                y=[round(point.loss, 5) for point in points],
                name=html.escape(line.name),
                mode="lines+markers" if len(points) < 3 else "lines",
                line=style,
                hovertemplate=f"%{{y}} at step %{{x}}<extra>{html.escape(line.name)}</extra>",
            )
        )
        if line.kind.endswith("trial"):
            continue  # it ends where the others go on: its colour and the hover say whose it is
        # annotations on a logarithmic axis stand at powers of ten
        place = math.log10(points[-1].step), points[-1].loss
        ends.append(LineEnd(*place, _short(line.name, look), style["color"]))
    losses = [y for trace in figure.data for y in trace.y]
    if losses:
        margin = 0.08 * (max(losses) - min(losses)) or 0.05
        span = min(losses) - margin, max(losses) + margin
        figure.update_yaxes(range=list(span), nticks=5)
        name_lines(figure, ends, span, LOSS_PIXELS - 72, look)
    steps = sorted({x for trace in figure.data for x in trace.x})
    ticks = _ticks(steps, 4 if look.phone else 6)
    figure.update_xaxes(type="log", tickvals=ticks, tickformat=",d", tickangle=0)
    return figure


def _short(name: str, look: Look) -> str:
    """On a phone a longer name would take the lines' room; the hover has it all."""
    long = look.phone and len(name) > PHONE_NAME
    return f"{name[: PHONE_NAME - 1]}…" if long else name


def _ticks(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of 1, 2, 5, 10, …, within the steps."""
    if not steps:
        return []
    every = [base * 10**power for power in range(8) for base in (1, 2, 5)]
    inside = [step for step in every if steps[0] <= step <= steps[-1]] or [steps[-1]]
    return inside[:: -(-len(inside) // most)]


def _colours(count: int, look: Look) -> list[str]:
    """From the palette's scale of formats, mixed where there are more of them than it has."""
    scale = look.palette.bits
    places = [position * (len(scale) - 1) / (count - 1) if count > 1 else 0.0 for position in range(count)]
    return [
        _mixed(scale[int(place)], scale[min(int(place) + 1, len(scale) - 1)], place % 1) for place in places
    ]


def _mixed(one: str, other: str, share: float) -> str:
    pairs = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def _steps(colours: list[str]) -> list[list[object]]:
    """A colour scale without mixtures."""
    count = len(colours)
    return [[(i + end) / count, colour] for i, colour in enumerate(colours) for end in (0, 1)]
