"""The sliders beside the front: bounds on size and quality, and the points that they find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dash import dcc, html

from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.words import point_lines
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.front.selection import within_bytes, within_quality
from jointsearch.study.analysis.front_table import FrontTable

SLIDER = ("min", "max", "step", "marks", "value")
"""What ``Bounds`` says of a slider."""


@dataclass(frozen=True)
class Bounds:
    """What the sliders ask of a point."""

    max_bytes: float
    quality: float
    """At least as good as this."""

    @classmethod
    def loosest(cls, table: FrontTable) -> Bounds:
        """Those that every point of the front meets."""
        qualities = [point.quality for point in table.front]
        worst = max(qualities) if OBJECTIVES[table.quality].sign > 0 else min(qualities)
        return cls(max(point.model_bytes for point in table.front), worst)

    def size_slider(self, table: FrontTable) -> dict[str, Any]:
        """The properties of a slider over the sizes of the front."""
        return _range([point.model_bytes for point in table.front], self.max_bytes, format_bytes)

    def quality_slider(self, table: FrontTable) -> dict[str, Any]:
        qualities = [point.quality for point in table.front]
        return _range(qualities, self.quality, lambda value: format_value(table.quality, value))


def best_within(table: FrontTable, bounds: Bounds) -> tuple[list[int], list[Any]]:
    """The best point of at most so many bytes and the smallest as good as the bound: trials and texts.

    The bounds are taken from sliders, which round: they are widened by a part in 10⁹.
    """
    widened = bounds.quality + OBJECTIVES[table.quality].sign * abs(bounds.quality) * 1e-9
    best = within_bytes(table.choices, int(bounds.max_bytes * (1 + 1e-9)), table.quality).trial
    smallest = within_quality(table.choices, widened, table.quality).trial
    texts = (("Best within the size: ", best), ("Smallest with the quality: ", smallest))
    return [best, smallest], [
        html.P(
            [
                title,
                dcc.Link(
                    "; ".join(point_lines(table, table.point(trial))[:3]),
                    href=study_path(table.study, "plan", trial),
                ),
            ]
        )
        for title, trial in texts
    ]


def _range(values: Sequence[float], value: float, write: Callable[[Any], str]) -> dict[str, Any]:
    low, high = min(values), max(values)
    return {
        "min": low,
        "max": high if high > low else low + 1,
        "step": (high - low) / 1000 or 1,
        "marks": {low: write(low), high: write(high)},
        "value": value,
    }


def slider(name: str, title: str, properties: dict[str, Any]) -> Any:
    slider = dcc.Slider(
        id=name,
        included=False,
        updatemode="drag",
        allow_direct_input=False,  # it would ask for bytes
        **properties,
    )
    return html.Div([html.Label(title, htmlFor=name), slider], className="grow")
