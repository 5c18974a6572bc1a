"""Two plans side by side."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from jointsearch.dashboard.data.pair import PairTable
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.elements import card, table_of
from jointsearch.dashboard.words import name_of
from jointsearch.front.objectives import format_bytes, format_value


def pair_page(study: str, pair: PairTable) -> list[Any]:
    points = (pair.first, pair.second)
    names = [name_of(point) for point in points]
    differences = [
        [d.module, *(f"{cell.shown_format}, rank {cell.rank}" for cell in (d.first, d.second))]
        for d in pair.differences
    ]
    summary = [
        [
            dcc.Link(name, href=study_path(study, "plan", point.trial)),
            format_value(pair.quality, point.quality),
            format_bytes(point.model_bytes),
        ]
        for name, point in zip(names, points, strict=True)
    ]
    outputs = [[html.Pre(text) for text in (e.input, e.reference, e.first, e.second)] for e in pair.examples]
    wide = ("wide l",) * 4
    says = (
        table_of(("input", "reference", *names), outputs, wide)
        if outputs
        else html.P("No example is stored.")
    )
    return [
        html.H1(f"{names[0]} and {names[1]}"),
        card("In short", table_of(("plan", pair.quality, "size"), summary, ("l", "", ""), by_lines=False)),
        card(
            f"{len(pair.differences)} of {pair.num_modules} modules differ",
            table_of(("module", *names), differences, ("wide l", "l", "l"), by_lines=False),
        ),
        card("What they say", says),
    ]
