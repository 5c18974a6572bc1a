"""The front as text: for keyboards, screen readers and files."""

from __future__ import annotations

import csv
import io
from typing import Any

from dash import dcc, html

from jointsearch.dashboard.figures.front_view import view_of
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.choice import against
from jointsearch.dashboard.pages.elements import table_of, tag
from jointsearch.dashboard.words import axis_name, axis_title, name_of, signed
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.study.analysis.front_table import FrontTable, front_rows
from jointsearch.study.analysis.verdict import Verdict

HEADS = (
    "plan",
    "size",
    "bits per weight",
    "",
    "against plans of equal bytes without a search",
    "the next point up",
)
CLASSES = ("l", "r2", "opt", "", "r2 rival", "opt")
ON_MEMORY = ("l", "opt", "r2", "", "r2 rival", "opt")
"""The axis takes the place of the size on a phone."""


def front_lines(table: FrontTable, verdict: Verdict) -> Any:
    """The front as text, for keyboards and screen readers, with what the next point up costs."""
    on_memory = table.axis != "model_bytes"
    lines: list[list[Any]] = []
    for point, larger in zip(table.front, (*table.front[1:], None), strict=True):
        step = "largest"
        if larger is not None:
            change = signed(format_value(table.quality, larger.quality - point.quality))
            step = f"{change} for {signed(format_bytes(table.bytes_of(larger) - table.bytes_of(point)))}"
        tags = [tag("knee", "blue")] if point.knee else []
        tags += [tag("selected", "good")] if point.selected else []
        tags += [tag("1 seed")] if point.num_seeds == 1 else []
        gain, rival = against(table, point, verdict)
        error = point.standard_error
        spread = "" if error is None else f" ± {format_value(table.quality, error)}"
        lines.append(
            [
                [dcc.Link(name_of(point), href=study_path(table.study, "plan", point.trial)), " ", *tags],
                format_bytes(point.model_bytes),
                format_bytes(table.bytes_of(point)) if on_memory else f"{point.bits_per_weight:.2f}",
                html.Span(
                    [format_value(table.quality, point.quality), html.Span(spread, className="soft")],
                    className="nb",
                ),
                [html.B(gain if gain != "—" else ""), html.Span(f" {rival}", className="soft small")],
                step,
            ]
        )
    heads = [head or table.quality for head in HEADS]
    if on_memory:
        heads[2] = axis_name(table.axis)
    knee = next((number for number, point in enumerate(table.front) if point.knee), None)
    return table_of(heads, lines, ON_MEMORY if on_memory else CLASSES, knee)


def as_csv(table: FrontTable, verdict: Verdict) -> str:
    """What ``jointsearch front --format csv`` says."""
    rows = front_rows(table, verdict)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def outside(table: FrontTable, look: Look) -> str:
    """What the figure does not show, and beyond what there is nothing."""
    count = view_of(table, look).num_outside
    texts = [f"{count} plans lie outside this view; a double click shows all."] if count else []
    if table.limit is not None:
        title = axis_title(table.axis)
        texts.append(f"The search proposes no plan beyond {format_bytes(table.limit)} of {title}.")
    return " ".join(texts)
