"""One bar that is divided into parts, with its legend below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from jointsearch.dashboard.pages.elements import said

LEAST_WRITTEN = 0.12
"""Share of a bar in which its number has room."""


@dataclass(frozen=True)
class Colour:
    """Names of CSS variables."""

    ground: str
    ink: str


BY_SIZE = (
    Colour("bits-2", "bits-ink-2"),
    Colour("bits-1", "bits-ink-1"),
    Colour("bits-0", "bits-ink-0"),
    Colour("grid", "ink"),
)
"""From the largest part on; the last one is that of all further ones."""


@dataclass(frozen=True)
class Slice:
    """A part of a bar."""

    name: str
    amount: float
    colour: Colour


def by_size(amounts: dict[str, float]) -> list[Slice]:
    """The largest first."""
    ordered = sorted(amounts.items(), key=lambda item: -item[1])
    return [
        Slice(name, amount, BY_SIZE[min(number, len(BY_SIZE) - 1)])
        for number, (name, amount) in enumerate(ordered)
    ]


def divided_bar(slices: Sequence[Slice], write: Callable[[float], str]) -> list[Any]:
    """``write``: an amount, for the legend and for screen readers."""
    total = sum(part.amount for part in slices)
    bars, keys, texts = [], [], []
    for part in slices:
        share = part.amount / total
        ground = f"var(--{part.colour.ground})"
        style = {"width": f"{100 * share:.2f}%", "background": ground, "color": f"var(--{part.colour.ink})"}
        bars.append(html.Span(f"{100 * share:.0f} %" if share > LEAST_WRITTEN else "", style=style))
        text = f"{part.name} {write(part.amount)}"
        keys.append(html.Span([html.I(style={"background": ground}), text]))
        texts.append(text)
    return [
        html.Div(bars, className="hbar", role="img", **said(", ".join(texts))),
        html.Div(keys, className="key"),
    ]
