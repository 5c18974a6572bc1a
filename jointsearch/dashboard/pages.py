"""Figures and tables put into pages, as Dash components. React renders every text as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from dash import dcc, html

from jointsearch.dashboard.data import (
    FrontTable,
    PairTable,
    PlanTable,
    ProgressTable,
    StudyRow,
)
from jointsearch.dashboard.figures import (
    describe,
    front_figure,
    hypervolume_figure,
    loss_figure,
    parts_figure,
    phases_figure,
    plan_figure,
    timeline_figure,
)
from jointsearch.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.selection import within_bytes, within_quality


def study_path(name: str, *rest: str | int) -> str:
    """The address of a study's page."""
    return "/".join(["/study", *(quote(str(part), safe="") for part in (name, *rest))])


def studies_page(rows: Sequence[StudyRow]) -> list[Any]:
    if not rows:
        return [html.H1("Studies"), html.P("This storage has no study yet; `jointsearch study start FILE`.")]
    heads = (
        "study",
        "model",
        "task",
        "objectives",
        "trials",
        "running",
        "failed",
        "per hour",
        "last activity",
    )
    lines = [
        [
            dcc.Link(row.name, href=study_path(row.name)),
            row.model,
            row.task,
            ", ".join(row.objectives),
            f"{row.complete + row.pruned}/{row.total}",
            row.running,
            row.failed,
            "-" if row.trials_per_hour is None else f"{row.trials_per_hour:.3g}",
            "-" if row.last_activity is None else f"{row.last_activity:%Y-%m-%d %H:%M:%S}",
        ]
        for row in rows
    ]
    return [html.H1("Studies"), table_of(heads, lines)]


def front_page(table: FrontTable) -> list[Any]:
    head = [html.H1(table.study), study_navigation(table.study)]
    if not table.points:
        return [*head, html.P("No trial is complete yet.")]
    front = table.front
    sizes = [point.model_bytes for point in front]
    qualities = [point.quality for point in front]
    worst = max(qualities) if OBJECTIVES[table.quality].sign > 0 else min(qualities)
    return [
        *head,
        html.P("Click a point for its plan.", id="front-help"),
        dcc.Graph(id="front", figure=front_figure(table), responsive=True),
        html.Div(
            [
                html.Div(
                    [html.Label("At most this size"), _slider("budget", sizes, max(sizes), format_bytes)],
                    className="grow",
                ),
                html.Div(
                    [
                        html.Label(f"{table.quality} at least as good as"),
                        _slider("bound", qualities, worst, lambda v: format_value(table.quality, v)),
                    ],
                    className="grow",
                ),
                dcc.RadioItems(["linear", "log"], "linear", id="scale", inline=True),
            ],
            className="row",
        ),
        html.Div(best_within(table, max(sizes), worst)[1], id="best"),
        html.H2("The front"),
        front_lines(table),
    ]


def best_within(table: FrontTable, max_bytes: float, bound: float) -> tuple[list[int], list[Any]]:
    """The best point of at most ``max_bytes`` and the smallest as good as ``bound``: trials and texts.

    The bounds are taken from sliders, which round: they are widened by a part in 10⁹.
    """
    widened = bound + OBJECTIVES[table.quality].sign * abs(bound) * 1e-9
    best = within_bytes(table.choices, int(max_bytes * (1 + 1e-9)), table.quality).trial
    smallest = within_quality(table.choices, widened, table.quality).trial
    texts = (("Best within the size: ", best), ("Smallest with the quality: ", smallest))
    return [best, smallest], [
        html.P(
            [
                title,
                dcc.Link(
                    "; ".join(describe(table, table.point(trial))[:3]),
                    href=study_path(table.study, "plan", trial),
                ),
            ]
        )
        for title, trial in texts
    ]


def front_lines(table: FrontTable) -> Any:
    """The front as text, for keyboards and screen readers, with what the next point up costs."""
    lines: list[list[Any]] = []
    sign = OBJECTIVES[table.quality].sign
    for point, larger in zip(table.front, (*table.front[1:], None), strict=True):
        step = ""
        if larger is not None:
            gain = format_value(table.quality, sign * (point.quality - larger.quality))
            step = f"{gain} better for {format_bytes(larger.model_bytes - point.model_bytes)} more"
        notes = [point.label, "knee" if point.knee else "", "selected" if point.selected else ""]
        lines.append(
            [
                dcc.Link(f"trial {point.trial}", href=study_path(table.study, "plan", point.trial)),
                format_bytes(point.model_bytes),
                format_value(table.quality, point.quality),
                step,
                ", ".join(note for note in notes if note),
            ]
        )
    return table_of(("trial", "size", table.quality, "the next point up", ""), lines)


def plan_page(study: str, front: FrontTable, table: PlanTable) -> list[Any]:
    point = table.point
    others = [other for other in front.points if other.trial != point.trial]
    return [
        html.H1(f"{study}: trial {point.trial}"),
        study_navigation(study),
        html.P("; ".join(describe(front, point))),
        html.P(comparison_text(front, table)),
        html.Div(
            [
                html.Button("Select for the full run", id="select", type="button"),
                html.Button("Download plan.json", id="download-plan", type="button"),
            ],
            className="row",
        ),
        html.P("selected" if point.selected else "", id="selected", role="status"),
        dcc.Graph(figure=plan_figure(table), responsive=True),
        dcc.Graph(figure=parts_figure(table), responsive=True),
        dcc.Graph(figure=loss_figure(table), responsive=True),
        html.H2("Compare with"),
        html.Ul(
            [
                html.Li(
                    dcc.Link(
                        "; ".join(describe(front, other)[:2]),
                        href=study_path(study, "compare", point.trial, other.trial),
                    )
                )
                for other in others
                if other.on_front or other.baseline
            ]
        ),
    ]


def comparison_text(front: FrontTable, table: PlanTable) -> str:
    """``+0.0130 loss better at -4.0 % bytes than uniform 4-bit rank 8``."""
    compared = table.comparison
    if compared is None:
        return "No uniform plan has been measured to compare it with."
    way = "better" if compared.gain >= 0 else "worse"
    amount = format_value(front.quality, abs(compared.gain))
    return f"{amount} {front.quality} {way} at {100 * compared.byte_share:+.1f} % bytes than {compared.label}"


def compare_page(study: str, pair: PairTable) -> list[Any]:
    names = [f"trial {point.trial}" for point in (pair.first, pair.second)]
    differences = [
        [d.module, *(f"{cell.bits} bits, rank {cell.rank}" for cell in (d.first, d.second))]
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


def progress_page(study: str, table: ProgressTable) -> list[Any]:
    return [
        html.H1(f"{study}: progress"),
        study_navigation(study),
        *progress_body(table),
    ]


def progress_body(table: ProgressTable) -> list[Any]:
    failures = [[count, html.Pre(reason)] for reason, count in table.failures]
    return [
        dcc.Graph(id="hypervolume", figure=hypervolume_figure(table), responsive=True),
        dcc.Graph(id="timeline", figure=timeline_figure(table), responsive=True),
        dcc.Graph(id="phases", figure=phases_figure(table), responsive=True),
        html.H2("Failures"),
        table_of(("trials", "reason"), failures) if failures else html.P("None."),
    ]


def study_navigation(study: str) -> Any:
    return html.Nav(
        [
            dcc.Link("All studies", href="/"),
            dcc.Link("Front", href=study_path(study)),
            dcc.Link("Progress", href=study_path(study, "progress")),
            html.A("optuna-dashboard", href="/dashboard"),
        ]
    )


def table_of(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> Any:
    return html.Div(
        html.Table(
            [
                html.Thead(html.Tr([html.Th(head, scope="col") for head in heads])),
                html.Tbody([html.Tr([html.Td(value) for value in line]) for line in lines]),
            ]
        ),
        className="scroll",
    )


def _slider(name: str, values: Sequence[float], start: float, write: Any) -> Any:
    low, high = min(values), max(values)
    return dcc.Slider(
        id=name,
        min=low,
        max=high if high > low else low + 1,
        value=start,
        marks={low: write(low), high: write(high)},
        included=False,
        updatemode="drag",
    )
