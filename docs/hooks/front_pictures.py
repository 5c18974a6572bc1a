"""The recorded fronts as pictures: loss against megabytes, drawn from ``front.csv`` without any library."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

STUDIES = Path(__file__).parents[2] / "studies"

TITLES = {
    "stories260k-wikitext2": "stories260K on WikiText-2",
    "stories260k-shakespeare": "stories260K on Shakespeare",
    "minilm-sst2": "MiniLM on SST-2",
    "minilm-xquad": "MiniLM on XQuAD",
    "t5-multi30k": "A small T5 on Multi30k",
}

WIDTH, HEIGHT = 320, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 40
FRONT, UNIFORM, TEXT = "#0072b2", "#d55e00", "#777777"


class Point(NamedTuple):
    """A plan that a trial measured."""

    megabytes: float
    loss: float
    on_front: bool
    is_uniform: bool


def pictures() -> dict[str, str]:
    """SVG text by its path in the site, one for each measured study."""
    return {_path(name): draw(title, points(name)) for name, title in TITLES.items()}


def gallery() -> str:
    """All of the pictures, for a page in ``docs/``."""
    return "\n".join(f"![{title}]({_path(name)})" for name, title in TITLES.items())


def points(name: str) -> list[Point]:
    """The front and the uniform plans of a measured study; without untrained ones, beside which all others
    would lie on a line."""
    with (STUDIES / "measured" / name / "front.csv").open(newline="", encoding="utf-8") as file:
        return [
            Point(
                int(row["model_bytes"]) / 1e6,
                float(row["loss"]),
                row["on_front"] == "True",
                row["label"].startswith("uniform"),
            )
            for row in csv.DictReader(file)
            if not row["label"].endswith(" rank 0")
        ]


def draw(title: str, plans: list[Point]) -> str:
    """One SVG: the front as stairs with dots, uniform plans as crosses, the ends of both axes written."""
    widest, narrowest = max(plan.megabytes for plan in plans), min(plan.megabytes for plan in plans)
    highest, lowest = max(plan.loss for plan in plans), min(plan.loss for plan in plans)

    def x(megabytes: float) -> float:
        share = (megabytes - narrowest) / (widest - narrowest)
        return LEFT + 10 + share * (WIDTH - LEFT - RIGHT - 20)

    def y(loss: float) -> float:
        return TOP + 10 + (highest - loss) / (highest - lowest) * (HEIGHT - TOP - BOTTOM - 20)

    front = sorted(plan for plan in plans if plan.on_front)
    stairs = f"M{x(front[0].megabytes):.1f} {y(front[0].loss):.1f}" + "".join(
        f"H{x(plan.megabytes):.1f}V{y(plan.loss):.1f}" for plan in front[1:]
    )
    dots = [f'<circle cx="{x(p.megabytes):.1f}" cy="{y(p.loss):.1f}" r="4" fill="{FRONT}"/>' for p in front]
    crosses = [
        f'<path d="M{x(p.megabytes) - 4:.1f} {y(p.loss) - 4:.1f}l8 8m0-8l-8 8" '
        f'stroke="{UNIFORM}" stroke-width="2"/>'
        for p in plans
        if p.is_uniform
    ]
    floor, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    texts = [
        _text(middle, 16, title, "middle"),
        _text(middle, HEIGHT - 6, "MB", "middle"),
        _text(LEFT, HEIGHT - 22, f"{narrowest:.3g}", "start"),
        _text(WIDTH - RIGHT, HEIGHT - 22, f"{widest:.3g}", "end"),
        _text(LEFT - 6, TOP + 14, f"{highest:.2f}", "end"),
        _text(LEFT - 6, floor - 6, f"{lowest:.2f}", "end"),
        _text(LEFT - 6, (TOP + floor) / 2, "loss", "end"),
    ]
    axes = f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="{TEXT}"/>'
    line = f'<path d="{stairs}" fill="none" stroke="{FRONT}" stroke-width="1.5"/>'
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', axes, line, *crosses, *dots, *texts, "</svg>\n"]
    )


def _path(name: str) -> str:
    return f"pictures/{name}.svg"


def _text(x: float, y: float, words: str, anchor: str) -> str:
    font = 'font-family="sans-serif" font-size="12"'
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {font} fill="{TEXT}">{words}</text>'
