"""Heat maps of formats and ranks, as plain HTML: values in the cells, the legend beside the title."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from jointsearch.dashboard.data.grid import PlanGrid, Scale, shown_format
from jointsearch.dashboard.data.plan import OUTSIDE, Cell
from jointsearch.dashboard.pages.elements import said
from jointsearch.plan.formats import FORMATS

NO_ADAPTER = "·"
DENSE = 32
"""Blocks from which on cells have smaller figures."""


@dataclass(frozen=True)
class Knob:
    """What a map shows of a module."""

    name: str
    variable: str
    """Of the CSS colours."""
    num_steps: int
    share: Callable[[Scale, Cell], float]
    text: Callable[[Cell], str]

    def colours(self, share: float) -> dict[str, str]:
        step = round(share * (self.num_steps - 1))
        return {"background": f"var(--{self.variable}-{step})", "color": f"var(--{self.variable}-ink-{step})"}


FORMAT = Knob(
    "Format",
    "bits",
    3,
    lambda scale, cell: scale.format_share(cell.format),
    lambda cell: shown_format(cell.format),
)
RANK = Knob(
    "LoRA rank",
    "rank",
    5,
    lambda scale, cell: scale.rank_share(cell.rank),
    lambda cell: str(cell.rank) if cell.rank else NO_ADAPTER,
)


def legend(knob: Knob, scale: Scale) -> Any:
    if knob is FORMAT:
        steps = [(scale.format_share(name), FORMATS[name].shown) for name in scale.formats]
    else:
        steps = [(scale.rank_share(rank), str(rank)) for rank in scale.ranks]
    shown = [html.Span(text, className="sw", style=knob.colours(share)) for share, text in steps]
    return html.Div(shown, className="row", style={"gap": "2px 0"})


def plan_maps(grids: Sequence[PlanGrid], scale: Scale) -> Any:
    """Both maps of every stack, and what is outside of blocks."""
    maps = []
    for grid in grids:
        several = len([g for g in grids if g.stack != OUTSIDE]) > 1
        for knob in (FORMAT, RANK):
            title = f"{knob.name}, {grid.stack}" if several or grid.stack == OUTSIDE else knob.name
            if (
                grid.stack == OUTSIDE
                and knob is RANK
                and not any(c and c.rank for r in grid.rows for c in r.cells)
            ):
                continue
            head = html.Div(
                [html.Span(title, style={"fontWeight": 600}), legend(knob, scale)],
                className="hd",
                style={"marginBottom": "4px"},
            )
            maps.append(html.Div([head, heat_map(grid, knob, scale)]))
    return html.Div(maps, className="maps")


def heat_map(grid: PlanGrid, knob: Knob, scale: Scale) -> Any:
    """Blocks across; on a phone down."""
    found: list[Any] = [html.Div("", className="ch")]
    found += [html.Div(row.label, className="rh") for row in grid.rows]
    for number, block in enumerate(grid.blocks):
        found.append(html.Div(block, className="ch"))
        found += [_cell(row.cells[number], knob, scale) for row in grid.rows]
    dense = " dense" if len(grid.blocks) > DENSE else ""
    return html.Div(
        found,
        className=f"hm{dense}",
        style={"--r": len(grid.rows)},
        role="img",
        **said(f"{knob.name} by block: {_in_words(grid, knob)}"),
    )


def mini_map(grids: Sequence[PlanGrid], scale: Scale) -> list[Any]:
    """Without figures, for a glance."""
    found = []
    for knob in (FORMAT, RANK):
        for grid in grids:
            if grid.stack != OUTSIDE:
                cells = [
                    _cell(row.cells[n], knob, scale) for n in range(len(grid.blocks)) for row in grid.rows
                ]
                label = f"{knob.name} by block: {_in_words(grid, knob)}"
                style = {"--r": len(grid.rows)}
                found.append(html.Div(cells, className="hm mini", style=style, role="img", **said(label)))
    return found


def _cell(cell: Cell | None, knob: Knob, scale: Scale) -> Any:
    if cell is None:
        return html.Div("")
    says = f"{cell.block} {cell.column}: {cell.shown_format}, rank {cell.rank}"
    return html.Div(knob.text(cell), title=says, style=knob.colours(knob.share(scale, cell)))


def _in_words(grid: PlanGrid, knob: Knob) -> str:
    return "; ".join(
        f"{row.label} " + " ".join(knob.text(c) if c else "-" for c in row.cells) for row in grid.rows
    )
