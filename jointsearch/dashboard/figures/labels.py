"""Names beside points, so that none covers a point, a line, an edge or another name.

Greedy, in pixels: the most important name first, at the nearest of 8 sides × 4 distances that is free. What
finds no place is left to the hover. A figure is as wide as its window: a place is free at every width.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SIDES = ((1, -0.7), (-1, -0.7), (0, -1), (1, 0.7), (-1, 0.7), (0, 1), (1, 0), (-1, 0))
DISTANCES = (15, 26, 42, 60)
LED_FROM = 15
"""From so many pixels between the name and the point on a line leads there."""
MARKER = 6
"""Half of what a marker takes."""
CHARACTER = 0.6
"""Of a character's height: its width, on the safe side of Inter's mean."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """A name for a point of the figure."""

    x: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True)
class Plot:
    """The area inside the axes."""

    width: float
    height: float
    x_range: tuple[float, float]
    """In the axis' own numbers: powers of ten on a logarithmic one."""
    y_range: tuple[float, float]
    is_log: bool = False

    def pixel(self, x: float, y: float) -> Point:
        """From the left and from the top."""
        x = math.log10(x) if self.is_log else x
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return (x - x0) / (x1 - x0) * self.width, (1 - (y - y0) / (y1 - y0)) * self.height


class _Taken:
    """What is taken of one plot."""

    def __init__(self, plot: Plot, markers: Iterable[Point], lines: Iterable[Sequence[Point]]) -> None:
        self.plot = plot
        self.names: list[Box] = []
        self.busy = [_around(plot.pixel(*marker), MARKER) for marker in markers]
        self.busy += [box for line in lines for box in _along([plot.pixel(*corner) for corner in line])]

    def box(self, label: Label, dx: float, dy: float, size: int) -> Box:
        x, y = self.plot.pixel(label.x, label.y)
        width, height = _extent(label, size)
        return x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2

    def leader(self, label: Label, dx: float, dy: float, size: int) -> list[Box]:
        """What the line to the point takes; nothing where the name is near."""
        x, y = self.plot.pixel(label.x, label.y)
        return _along([(x, y), (x + dx, y + dy)]) if is_led(label, dx, dy, size) else []

    def is_free(self, label: Label, dx: float, dy: float, size: int) -> bool:
        x, y = self.plot.pixel(label.x, label.y)
        box = self.box(label, dx, dy, size)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= self.plot.width and box[3] <= self.plot.height
        if not inside or not (0 <= x <= self.plot.width and 0 <= y <= self.plot.height):
            return False
        if any(overlaps(box, other) for other in (*self.names, *self.busy)):
            return False
        leader = self.leader(label, dx, dy, size)
        return not any(overlaps(part, name) for part in leader for name in self.names)

    def take(self, label: Label, dx: float, dy: float, size: int) -> None:
        self.names.append(self.box(label, dx, dy, size))
        self.busy += self.leader(label, dx, dy, size)


def placed(
    labels: Sequence[Label],
    markers: Iterable[Point],
    lines: Iterable[Sequence[Point]],
    plots: Sequence[Plot],
    size: int,
) -> list[tuple[Label, float, float]]:
    """The labels that have found a place that is free in all ``plots``, with its distance from their points.

    Distances are in pixels, right and down; ``markers`` and the corners of ``lines`` in the figure's numbers;
    ``size``: of the font.
    """
    markers, lines = list(markers), list(lines)
    taken = [_Taken(plot, markers, lines) for plot in plots]
    found = []
    for label in labels:
        place = _place(label, taken, size)
        if place is not None:
            found.append((label, *place))
            for one in taken:
                one.take(label, *place, size)
    return found


def _place(label: Label, taken: Sequence[_Taken], size: int) -> tuple[float, float] | None:
    width, _ = _extent(label, size)
    for distance in DISTANCES:
        for side_x, side_y in SIDES:
            place = side_x * (0.7 * distance + width / 2), side_y * distance
            if all(one.is_free(label, *place, size) for one in taken):
                return place
    return None


def _extent(label: Label, size: int) -> tuple[float, float]:
    """Width and height of a name; ``size``: of the font."""
    return CHARACTER * size * len(label.text) + 4, size + 5


def is_led(label: Label, dx: float, dy: float, size: int) -> bool:
    """Whether the name, placed so far from its point, needs a line to it."""
    width, height = _extent(label, size)
    return math.hypot(max(abs(dx) - width / 2, 0), max(abs(dy) - height / 2, 0)) >= LED_FROM


def annotation(label: Label, dx: float, dy: float, plot: Plot, size: int) -> dict[str, Any]:
    """A placed label as Plotly wants it, with a line to its point where it is far."""
    return {
        "x": math.log10(label.x) if plot.is_log else label.x,
        "y": label.y,
        "text": html.escape(label.text),
        "ax": dx,
        "ay": dy,
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "standoff": 6,
        "arrowcolor": label.colour if is_led(label, dx, dy, size) else "rgba(0,0,0,0)",
        "font": {"size": size, "color": label.colour},
        "borderpad": 0,
    }


def overlaps(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _around(point: Point, half: float) -> Box:
    return point[0] - half, point[1] - half, point[0] + half, point[1] + half


def _along(corners: Sequence[Point]) -> list[Box]:
    """What a line takes: a box for each stretch along an axis, small ones along others."""
    boxes: list[Box] = []
    for start, end in itertools.pairwise(corners):
        (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
        if right - left < 1 or bottom - top < 1:
            boxes.append((left - 2, top - 2, right + 2, bottom + 2))
            continue
        count = max(2, int(math.dist(start, end) / 5))
        shares = [number / count for number in range(count + 1)]
        boxes += [
            _around((start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share), 2)
            for share in shares
        ]
    return boxes
