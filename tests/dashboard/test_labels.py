"""Names beside points and at the ends of lines."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from jointsearch.dashboard.figures.labels import Label, Plot, annotation, placed
from jointsearch.dashboard.figures.look import DARK, LIGHT
from jointsearch.dashboard.figures.style import LINE_PIXELS, apart

PLOT = Plot(300, 200, (0.0, 30.0), (0.0, 20.0))


def covers(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("seed", range(20))
def test_no_name_covers_anything(seed: int) -> None:
    rng = random.Random(seed)
    points = [(rng.uniform(0, 30), rng.uniform(0, 20)) for _ in range(12)]
    labels = [Label(x, y, "plan " + "1" * rng.randint(1, 9), "#000") for x, y in points]
    plots = [replace(PLOT, width=width) for width in (300, 350, 400)]
    found = placed(labels, points, [sorted(points)], plots, 12)
    assert found
    for plot in plots:
        pixels = [(x / 30 * plot.width, 200 - 10 * y) for x, y in points]
        boxes = []
        for label, dx, dy in found:
            x, y = label.x / 30 * plot.width + dx, 200 - 10 * label.y + dy
            half = 0.3 * 12 * len(label.text)
            boxes.append((x - half, y - 8, x + half, y + 8))
        for box in boxes:
            assert box[0] >= 0 and box[1] >= 0 and box[2] <= plot.width and box[3] <= 200
            assert not any(covers(box, (x - 6, y - 6, x + 6, y + 6)) for x, y in pixels)
            for (x0, y0), (x1, y1) in itertools.pairwise(sorted(pixels)):
                steps = [(x0 + (x1 - x0) * n / 200, y0 + (y1 - y0) * n / 200) for n in range(201)]
                assert not any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in steps)
        assert not any(covers(one, other) for one, other in itertools.combinations(boxes, 2))


def test_the_most_important_name_is_the_last_to_go() -> None:
    labels = [Label(15, 10, f"name {number}", "#000") for number in range(60)]
    kept = [label.text for label, *_ in placed(labels, [(15, 10)], [], [PLOT], 12)]
    assert kept[0] == "name 0" and len(kept) < 60
    assert placed([Label(31, 10, "outside", "#000")], [], [], [PLOT], 12) == []


def test_a_far_name_has_a_line_to_its_point() -> None:
    label = Label(100.0, 10, "<b>", "#123456")
    plot = Plot(300, 200, (0.0, 3.0), (0.0, 20.0), is_log=True)
    near, far = annotation(label, 10, -9, plot, 12), annotation(label, 10, -42, plot, 12)
    assert (near["arrowcolor"], far["arrowcolor"]) == ("rgba(0,0,0,0)", "#123456")
    assert near["text"] == "&lt;b&gt;" and near["x"] == pytest.approx(2.0)
    assert plot.pixel(100.0, 10) == (pytest.approx(200), pytest.approx(100))


@pytest.mark.parametrize("places", [[10, 10, 10], [0, 190, 200, 200], [5, 100, 101, 180]])
def test_names_of_lines_stand_apart(places: list[float]) -> None:
    found = apart(places, 200)
    assert all(b - a >= LINE_PIXELS - 1e-9 for a, b in itertools.pairwise(found))
    assert max(found) <= 200
    assert apart([5, 100, 180], 200) == [5, 100, 180]


def channel(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's."""
    lights = []
    for colour in (one, other):
        red, green, blue = (channel(int(colour[place : place + 2], 16)) for place in (1, 3, 5))
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_can_be_read(palette: object) -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    for ink in ("ink", "soft", "blue", "red", "ref", "good", "warn", "bad"):
        assert contrast(getattr(palette, ink), palette.card) >= 4.5, ink
    for scale in ("bits", "rank"):
        pairs = zip(getattr(palette, scale), getattr(palette, f"{scale}_ink"), strict=True)
        assert all(contrast(*pair) >= 4.5 for pair in pairs), scale
