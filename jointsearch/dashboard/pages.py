"""Figures and tables put into pages, as Dash components. React renders every text as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go
from dash import dcc, html

from jointsearch.dashboard.data import (
    PairTable,
    PlanTable,
    ProgressTable,
    StudyRow,
    WhyTable,
)
from jointsearch.dashboard.figures import (
    DEFAULT_HEIGHT,
    describe,
    effects_figure,
    front_figure,
    hypervolume_figure,
    importances_figure,
    loss_figure,
    parts_figure,
    phases_figure,
    plan_figure,
    timeline_figure,
)
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.front.selection import within_bytes, within_quality
from jointsearch.study.analysis.front_table import FrontTable
from jointsearch.study.full_runs import RunState, full_runs, selected
from jointsearch.study.plans import complete_trial
from jointsearch.study.stored import StoredStudy

REFRESH_SECONDS = 3
SLIDER = ("min", "max", "step", "marks", "value")
"""What ``Bounds`` says of a slider."""


def study_path(name: str, *rest: str | int) -> str:
    """The address of a study's page."""
    return "/".join(["/study", *(quote(str(part), safe="") for part in (name, *rest))])


def studies_page(rows: Sequence[StudyRow]) -> list[Any]:
    return [html.H1("Studies"), html.Div(study_lines(rows), id="studies"), _clock("studies-clock")]


def study_lines(rows: Sequence[StudyRow]) -> Any:
    if not rows:
        return html.P("This storage has no study yet; `jointsearch study start FILE` makes one.")
    heads = ("study", "model", "task", "objectives", "trials", "stopped early", "running", "failed")
    lines = [
        [
            dcc.Link(row.name, href=study_path(row.name)),
            row.model,
            row.task,
            ", ".join(row.objectives),
            f"{row.complete + row.pruned}/{row.total}",
            row.pruned,
            row.running,
            row.failed,
            "-" if row.trials_per_hour is None else f"{row.trials_per_hour:.3g}",
            _moment(row.last_activity),
        ]
        for row in rows
    ]
    return table_of((*heads, "per hour", "last activity"), lines)


def front_page(table: FrontTable, verdict: str) -> list[Any]:
    head = [html.H1(table.study), study_navigation(table.study)]
    if not table.points:
        return [*head, html.P("No trial is complete yet."), _clock("waiting-clock")]
    loosest = Bounds.loosest(table)
    return [
        *head,
        html.P(verdict, id="verdict"),
        html.P("A click on a point opens its plan; so do the links below.", className="help"),
        _graph(front_figure(table), "front"),
        html.Div(
            [
                dcc.RadioItems(["linear", "log"], "linear", id="scale", inline=True),
                dcc.Checklist([{"label": "predicted front", "value": "predicted"}], [], id="layers"),
            ],
            className="row",
        ),
        html.Div(
            [
                _slider("budget", "At most this size", loosest.size_slider(table)),
                _slider("bound", f"{table.quality} at least as good as", loosest.quality_slider(table)),
            ],
            className="row",
        ),
        html.Div(best_within(table, loosest)[1], id="best"),
        html.Div(
            [
                html.Button("Measure the predicted best within the size", id="measure", type="button"),
                html.Span("", id="measured", role="status"),
            ],
            className="row",
        ),
        html.H2("The front"),
        html.Div(front_lines(table), id="points"),
        _clock("front-clock"),
    ]


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


def plan_page(study: StoredStudy, front: FrontTable, table: PlanTable) -> list[Any]:
    point = table.point
    others = [other for other in front.points if other.trial != point.trial]
    return [
        html.H1(f"{study.name}: trial {point.trial}"),
        study_navigation(study.name),
        html.P("; ".join(describe(front, point))),
        html.P(comparison_text(front, table)),
        html.Div(
            [
                html.Label("Note", htmlFor="note"),
                dcc.Input(id="note", type="text", maxLength=500, className="grow"),
                html.Button("Select for the full run", id="select", type="button"),
                html.Button("Download plan.json", id="download-plan", type="button"),
            ],
            className="row",
        ),
        html.Div(full_run_lines(study, point.trial), id="full-run", role="status"),
        _graph(plan_figure(table), "plan"),
        _graph(parts_figure(table)),
        _graph(loss_figure(table)),
        html.P(
            dcc.Link(
                "What each group's bits and rank are worth here",
                href=study_path(study.name, "why", point.trial),
            )
        ),
        html.H2("Compare with"),
        html.Ul(
            [
                html.Li(
                    dcc.Link(
                        "; ".join(describe(front, other)[:2]),
                        href=study_path(study.name, "compare", point.trial, other.trial),
                    )
                )
                for other in others
                if other.on_front or other.baseline
            ]
        ),
        _clock("plan-clock"),
    ]


def full_run_lines(study: StoredStudy, trial: int) -> list[Any]:
    """The selection's note, where its full run stands, and what it has given beside the calibration."""
    run = full_runs(study.optuna_study.user_attrs).get(trial)
    if run is None:
        return []
    chosen = selected(study.optuna_study) == trial
    note = f": {run.selection.note}" if run.selection.note else ""
    found: list[Any] = [html.P(("Selected" if chosen else "Selected before another") + note)]
    state = f"Full run: {run.state}"
    if run.num_steps:
        state += f", step {run.step} of {run.num_steps}"
    if run.failure:
        state += f": {run.failure}"
    if run.state is RunState.WAITING:
        state += f"; `jointsearch worker {study.name} --full-runs` trains it"
    found.append(html.P(state))
    if run.measurement is not None:
        metrics = [complete_trial(study, trial).measurement.metrics, run.measurement.metrics]
        lines = [
            [name, *(format_value(name, values[name]) if name in values else "-" for values in metrics)]
            for name in run.measurement.metrics
        ]
        found.append(table_of(("validation", "calibration", "full run"), lines))
    return found


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


def why_page(study: str, table: WhyTable) -> list[Any]:
    return [
        html.H1(f"{study}: why"),
        study_navigation(study),
        html.P(
            "What the highest bits, and the highest rank, of each group are worth against the lowest, all "
            f"else as in trial {table.point.trial}. This is the model of the search, which takes quality for "
            "nearly additive."
        ),
        _graph(effects_figure(table), "effects"),
        html.H2("Importances"),
        _graph(importances_figure(table), "importances")
        if table.importances
        else html.P("Too few trials have been searched for Optuna's importances."),
    ]


def progress_page(study: str, table: ProgressTable) -> list[Any]:
    return [
        html.H1(f"{study}: progress"),
        study_navigation(study),
        *(
            _graph(draw(table), name)
            for name, draw in (
                ("hypervolume", hypervolume_figure),
                ("timeline", timeline_figure),
                ("phases", phases_figure),
            )
        ),
        html.H2("Failures"),
        html.Div(failure_lines(table), id="failures"),
        _clock("progress-clock"),
    ]


def failure_lines(table: ProgressTable) -> Any:
    """Why trials have failed, how often; and what early stopping has spared."""
    saved = f"Early stopping has spared {table.share_saved:.1%} of the training steps."
    if not table.failures:
        return [html.P("None."), html.P(saved)]
    lines = [[count, html.Pre(reason)] for reason, count in table.failures]
    return [table_of(("trials", "reason"), lines), html.P(saved)]


def study_navigation(study: str) -> Any:
    return html.Nav(
        [
            dcc.Link("All studies", href="/"),
            dcc.Link("Front", href=study_path(study)),
            dcc.Link("Why", href=study_path(study, "why")),
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


def _graph(figure: go.Figure, name: str = "") -> Any:
    """As wide as the page and as high as the figure, also while a new one comes."""
    ids: Any = {"id": name} if name else {}
    height = figure.layout.height or DEFAULT_HEIGHT
    config: Any = {"displaylogo": False}
    return dcc.Graph(figure=figure, responsive=True, config=config, style={"height": f"{height}px"}, **ids)


def _range(values: Sequence[float], value: float, write: Callable[[Any], str]) -> dict[str, Any]:
    low, high = min(values), max(values)
    return {
        "min": low,
        "max": high if high > low else low + 1,
        "step": (high - low) / 1000 or 1,
        "marks": {low: write(low), high: write(high)},
        "value": value,
    }


def _slider(name: str, title: str, properties: dict[str, Any]) -> Any:
    slider = dcc.Slider(
        id=name,
        included=False,
        updatemode="drag",
        allow_direct_input=False,  # it would ask for bytes
        **properties,
    )
    return html.Div([html.Label(title, htmlFor=name), slider], className="grow")


def _clock(name: str) -> Any:
    return dcc.Interval(id=name, interval=REFRESH_SECONDS * 1000)


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
