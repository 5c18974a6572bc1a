"""Two plans side by side."""

from __future__ import annotations

from typing import Any

from dash import html

from jointsearch.dashboard.data.pair import PairTable
from jointsearch.dashboard.pages.elements import study_navigation, table_of
from jointsearch.front.objectives import format_bytes, format_value


def pair_page(study: str, pair: PairTable) -> list[Any]:
    names = [f"trial {point.trial}" for point in (pair.first, pair.second)]
    differences = [
        [d.module, *(f"{cell.shown_format}, rank {cell.rank}" for cell in (d.first, d.second))]
        for d in pair.differences
    ]
    summary = [
        [name, format_value(pair.quality, point.quality), format_bytes(point.model_bytes)]
        for name, point in zip(names, (pair.first, pair.second), strict=True)
    ]
    outputs = [[html.Pre(text) for text in (e.input, e.reference, e.first, e.second)] for e in pair.examples]
    return [
        html.H1(f"{study}: {' and '.join(names)}"),
        study_navigation(study),
        table_of(("", pair.quality, "size"), summary),
        html.H2(f"{len(pair.differences)} of {pair.num_modules} modules differ"),
        table_of(("module", *names), differences),
        html.H2("What they say"),
        table_of(("input", "reference", *names), outputs) if outputs else html.P("No example is stored."),
    ]
