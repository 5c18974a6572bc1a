"""Names beside points, so that none covers a point, a line, an edge or another name.

Greedy, in pixels: the most important name first, at the nearest of 8 sides × 4 distances that is free. What
finds no place is left to the hover. The plot is taken as narrow as it can be: a wider one only spreads.
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
LED_FROM = 26
"""From this distance a line leads to the point."""
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


def placed(
    labels: Sequence[Label], markers: Iterable[Point], lines: Iterable[Sequence[Point]], plot: Plot, size: int
) -> list[tuple[Label, float, float, Box]]:
    """The labels that have found a place, with its distance from their points and its box, in pixels.

    ``markers`` and the corners of ``lines`` are in the figure's numbers; ``size``: of the font.
    """
    busy = [_around(plot.pixel(*marker), MARKER) for marker in markers]
    busy += [box for line in lines for box in _along([plot.pixel(*corner) for corner in line])]
    found: list[tuple[Label, float, float, Box]] = []
    for label in labels:
        place = _place(label, busy, [box for *_, box in found], plot, size)
        if place is not None:
            found.append((label, *place))
            busy += _leader(label, place, plot)
    return found


def annotation(label: Label, dx: float, dy: float, plot: Plot, size: int) -> dict[str, Any]:
    """A placed label as Plotly wants it, with a line to its point where it is far."""
    led = math.hypot(dx, dy) >= LED_FROM
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
        "arrowcolor": label.colour if led else "rgba(0,0,0,0)",
        "font": {"size": size, "color": label.colour},
        "borderpad": 0,
    }


Place = tuple[float, float, Box]
"""Where a name stands: right of its point, below it, and the box that it takes."""


def _leader(label: Label, place: Place, plot: Plot) -> list[Box]:
    """What the line to the point takes; nothing where the name is near."""
    dx, dy, _ = place
    x, y = plot.pixel(label.x, label.y)
    return _along([(x, y), (x + dx, y + dy)]) if math.hypot(dx, dy) >= LED_FROM else []


def _place(label: Label, busy: list[Box], names: list[Box], plot: Plot, size: int) -> Place | None:
    """``names``: the boxes of other names, which a line to the point must not cross either."""
    x, y = plot.pixel(label.x, label.y)
    if not (0 <= x <= plot.width and 0 <= y <= plot.height):
        return None
    width, height = CHARACTER * size * len(label.text) + 4, size + 5
    for distance in DISTANCES:
        for side_x, side_y in SIDES:
            dx = side_x * (0.7 * distance + width / 2)
            dy = side_y * distance
            box = (x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= plot.width and box[3] <= plot.height
            if not inside or any(overlaps(box, other) for other in (*busy, *names)):
                continue
            line = _leader(label, (dx, dy, box), plot)
            if not any(overlaps(part, name) for part in line for name in names):
                return dx, dy, box
    return None


def overlaps(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _around(point: Point, half: float) -> Box:
    return point[0] - half, point[1] - half, point[0] + half, point[1] + half


def _along(corners: Sequence[Point]) -> list[Box]:
    """Small boxes along a line."""
    boxes = []
    for start, end in itertools.pairwise(corners):
        count = max(2, int(math.dist(start, end) / 5))
        for number in range(count + 1):
            share = number / count
            point = start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
            boxes.append(_around(point, 2))
    return boxes
