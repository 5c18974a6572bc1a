"""What part of a study the front's figure shows, and the names that stand in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jointsearch.dashboard.data.against import ladder_of, rival_of
from jointsearch.dashboard.figures.labels import Label, Plot, Point, annotation, placed
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.style import byte_unit, font_size
from jointsearch.dashboard.words import name_of
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint

WIDTHS, HEIGHT = (480, 540, 600, 660, 720, 780, 840, 900), 420
PHONE_WIDTHS, PHONE_HEIGHT = (248, 290, 340, 390, 450, 520), 320
"""Pixels of the plot, in windows of its class."""
ABOVE = 0.15
"""Of the front's range behind its second point: what is shown above that one."""
MARGIN = 0.06
NEAR = 0.25
"""Of the front's width: a limit that lies further beyond it is not shown."""
LIMIT = "limit"
"""What the line is called; the page says whose limit it is."""
MAX_LABELS, MAX_PHONE_LABELS = 14, 6


@dataclass(frozen=True)
class Bound:
    """What a person asks of a point."""

    by: Literal["size", "quality"]
    value: float
    """Bytes, or the quality's units."""


@dataclass(frozen=True)
class FrontView:
    """The part that is shown: the front but for what is far worse than its second point."""

    axis: str
    """As ``FrontTable`` has it."""
    unit: str
    unit_bytes: int
    plot: Plot
    num_outside: int = 0
    """Measured plans that lie outside."""
    limit: float | None = None
    """That of the search, in the unit of the axis; None where there is none, or it lies outside."""

    def size(self, num_bytes: float) -> float:
        """In the unit of the axis."""
        return short(num_bytes / self.unit_bytes)

    def place(self, point: PlanPoint) -> Point:
        """In the units of the axes."""
        return self.size(point.bytes_on(self.axis)), point.quality

    def is_inside(self, point: PlanPoint) -> bool:
        x, y = self.plot.pixel(*self.place(point))
        return -1e-6 <= x <= self.plot.width + 1e-6 and -1e-6 <= y <= self.plot.height + 1e-6


def short(value: float) -> float:
    """To seven digits: more of them is most of what a thousand points weigh."""
    return float(f"{value:.7g}")


def view_of(table: FrontTable, look: Look, *, log_bytes: bool = False) -> FrontView:
    """``table`` has a point."""
    sign = OBJECTIVES[table.quality].sign
    costs = [sign * point.quality for point in table.front]
    worst = costs[1] if len(costs) > 2 else costs[0]
    span = worst - min(costs) or 0.1 * abs(worst) or 1.0
    ends = sign * (worst + ABOVE * span), sign * (min(costs) - MARGIN * span)
    taken = [table.bytes_of(point) for point in table.front]
    unit, unit_bytes = byte_unit([max(taken)])
    near = table.limit is not None and table.limit <= max(taken) + NEAR * (max(taken) - min(taken))
    limit = short(table.limit / unit_bytes) if near and table.limit else None
    sizes = [size / unit_bytes for size in taken] + ([limit] if limit else [])
    shown = [math.log10(size) for size in sizes] if log_bytes else sizes
    margin = MARGIN * (max(shown) - min(shown)) or 0.1 * abs(shown[0]) or 1.0
    width, height = (PHONE_WIDTHS[0], PHONE_HEIGHT) if look.phone else (WIDTHS[0], HEIGHT)
    plot = Plot(
        width,
        height,
        (min(shown) - margin, max(shown) + 1.5 * margin),
        (min(ends), max(ends)),
        log_bytes,
    )
    view = FrontView(table.axis, unit, unit_bytes, plot, limit=limit)
    return replace(view, num_outside=sum(not view.is_inside(point) for point in table.points))


def steps(view: FrontView, points: Sequence[PlanPoint]) -> list[Point]:
    """The corners of the front: a plan is the best one up to the next one's bytes."""
    corners: list[Point] = []
    for point, larger in itertools.pairwise(points):
        corners += [view.place(point), (view.place(larger)[0], point.quality)]
    return corners + [view.place(point) for point in points[-1:]]


def names(
    table: FrontTable, view: FrontView, choice: int | None, bound: Bound | None, look: Look
) -> list[dict[str, Any]]:
    """The most important first: the search's limit, the choice, its rival, the selected one, the knee, what
    needs no search."""
    colours, size = look.palette, font_size(look)
    shown = [point for point in table.points if point.on_front or point.baseline]
    markers = [view.place(point) for point in shown]
    lines: list[list[Point]] = [steps(view, table.front), steps(view, ladder_of(table))]
    upright = [view.limit] if view.limit is not None else []
    if bound is not None and bound.by == "size":
        upright.append(view.size(bound.value))
    lines += [[(x, y) for y in view.plot.y_range] for x in upright]
    labels = []
    if view.limit is not None:
        labels.append(Label(view.limit, view.plot.y_range[1], LIMIT, colours.warn))
    for point, text in _named(table, choice):
        labels.append(Label(*view.place(point), text, colours.ref if point.baseline else colours.blue))
    most = MAX_PHONE_LABELS if look.phone else MAX_LABELS
    plots = [replace(view.plot, width=width) for width in (PHONE_WIDTHS if look.phone else WIDTHS)]
    found = placed(labels[: 2 * most], markers, lines, plots, size)[:most]
    return [annotation(label, dx, dy, view.plot, size) for label, dx, dy in found]


def _named(table: FrontTable, choice: int | None) -> list[tuple[PlanPoint, str]]:
    """Points with what they are called."""
    chosen = next((point for point in table.points if point.trial == choice), None)
    found: dict[int, tuple[PlanPoint, str]] = {}

    def add(point: PlanPoint | None, text: str = "") -> None:
        if point is not None and point.trial not in found:
            found[point.trial] = point, text or name_of(point)

    add(chosen)
    add(rival_of(table, chosen) if chosen else None)
    add(next((point for point in table.points if point.selected), None), "selected")
    knee = next((point for point in table.points if point.knee), None)
    add(knee, f"{name_of(knee)}, knee" if knee is not None and knee.baseline else "knee")
    for point in (*table.front, *table.points):
        if point.baseline:
            add(point)
    return list(found.values())
