"""The cards of a plan's page: its bytes, its memory, its losses, and a plan without a search beside it."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html

from jointsearch.dashboard.data.against import compared
from jointsearch.dashboard.data.losses import loss_lines
from jointsearch.dashboard.data.plan import PlanTable
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.plan import loss_figure
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.bars import Colour, Slice, by_size, divided_bar
from jointsearch.dashboard.pages.elements import card, graph, said, table_of, tag
from jointsearch.dashboard.words import name_of, signed
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint
from jointsearch.study.stored import StoredStudy

MEMORY_COLOURS = {
    "frozen weights": Colour("bits-1", "bits-ink-1"),
    "adapter": Colour("rank-3", "rank-ink-3"),
    "optimizer": Colour("rank-2", "rank-ink-2"),
    "gradients": Colour("rank-1", "rank-ink-1"),
    "activations": Colour("grid", "ink"),
}
"""Blue is frozen, orange is trained, as in the maps of formats and ranks."""


def bytes_card(table: PlanTable) -> Any:
    total = sum(table.bytes_by_part.values())
    return card(
        "Where the bytes go",
        *divided_bar(by_size(dict(table.bytes_by_part)), format_bytes),
        note=f"{format_bytes(total)} in the saved checkpoint and adapter",
    )


def memory_card(table: PlanTable) -> Any:
    """Where the memory of training goes, and what else is known of memory."""
    point, training = table.point, table.training
    rows = []
    if training is None:
        rows += [("frozen weights", point.cost.base_bytes), ("adapter", point.cost.adapter_bytes)]
        if point.training_memory:
            rows.append(("a step of training, foretold", point.training_memory))
    if point.serving_memory:
        rows.append(("to serve an example of the task's length, foretold", point.serving_memory))
    if point.peak_memory_bytes:
        rows.append(("peak of the trial's process, measured", point.peak_memory_bytes))
    most = max([num_bytes for _, num_bytes in rows] + [training.taken.total_bytes if training else 0])
    shown = [
        html.Div(
            [
                html.Div([html.Span(name), html.B(format_bytes(num_bytes))], className="hd flat"),
                html.Div(html.I(style={"width": f"{100 * num_bytes / most:.1f}%"}), className="pbar"),
            ],
            className="gap",
        )
        for name, num_bytes in rows
    ]
    if training is None:
        return card("Memory", *shown, note="what training keeps, and what it took")
    slices = [
        Slice(name, num_bytes, MEMORY_COLOURS[name])
        for name, num_bytes in training.parts.items()
        if num_bytes
    ]
    note = f"{format_bytes(training.taken.total_bytes)}, foretold for {training.conditions}"
    return card("Where training memory goes", *divided_bar(slices, format_bytes), *shown, note=note)


def against_card(front: FrontTable, point: PlanPoint, rival: PlanPoint | None) -> Any:
    options = [
        {"value": str(other.trial), "label": f"{name_of(other)} ({format_bytes(other.model_bytes)})"}
        for other in sorted(front.points, key=lambda other: other.model_bytes)
        if other.baseline and other.trial != point.trial
    ]
    if rival is None:
        return card("Against a plan without a search", html.P("None is measured yet.", className="soft"))
    choose = dmc.Select(
        id="rival",
        data=options,
        value=str(rival.trial),
        size="sm",
        w=280,
        allowDeselect=False,
        **said("Which plan"),
    )
    return card(
        "Against a plan without a search",
        html.Div(against_lines(front, point, rival), id="against"),
        right=choose,
        note="by default the best of no more bytes",
    )


def against_lines(front: FrontTable, point: PlanPoint, rival: PlanPoint) -> Any:
    """Every number of both; icons and words say which is better."""
    lines = []
    for row in compared(front, point, rival):
        name = "size" if row.name == "model_bytes" else row.name.removesuffix("_bytes").replace("_", " ")
        change = signed(format_value(row.name, row.plan - row.rival))
        if row.name.endswith("_bytes") and row.rival:
            change = signed(f"{100 * (row.plan / row.rival - 1):.1f} %")
        mark = {True: tag("better", "good"), False: tag("worse", "bad"), None: ""}[row.is_better]
        values = [format_value(row.name, value) for value in (row.plan, row.rival)]
        lines.append([name, *values, [change, " ", mark]])
    heads = ("", name_of(point), name_of(rival), "difference")
    return table_of(heads, lines, ("l", "", "", ""), by_lines=False)


def losses_card(study: StoredStudy, table: PlanTable, rival: PlanPoint | None, look: Look) -> Any:
    lines = loss_lines(study, table, rival)
    # the figure is there in any case: choosing another rival draws it anew
    figure = loss_figure(lines, look)
    missing = [] if figure.data else [html.P("No losses are recorded on the way.", className="soft")]
    drawn = graph(figure, "losses", "Validation loss over training steps, beside a rival's")
    shown = html.Div(drawn, hidden=not figure.data)
    return card("Loss over steps", *missing, shown, note="logarithmic steps")


def compare_card(front: FrontTable, point: PlanPoint) -> Any:
    """The way to two plans side by side."""
    options = [
        {"value": study_path(front.study, "compare", point.trial, other.trial), "label": name_of(other)}
        for other in front.points
        if (other.on_front or other.baseline) and other.trial != point.trial
    ]
    choose = dmc.Select(
        id="compare-with",
        data=options,
        placeholder="Choose a plan",
        searchable=True,
        w=260,
        **said("Compare with"),
    )
    note = "what differs, module by module, and what both say to the same examples"
    return card("Compare side by side", choose, note=note)
