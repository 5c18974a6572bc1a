"""What changes on the front's page: with the study, and with a person's controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dash import Patch, html, no_update
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.data.grid import Scale
from jointsearch.dashboard.data.verdict import banner
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.front_view import Bound
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.banner import verdict_banner
from jointsearch.dashboard.pages.choice import (
    SLIDER,
    best_within,
    bounds_by,
    chosen_lines,
    ends_of,
    loosest,
    slider_of,
    unit_of,
)
from jointsearch.dashboard.pages.front_table import front_lines, outside
from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.search.additive.predicted_front import PredictedPoint
from jointsearch.study.analysis.front_table import FrontTable, axes_of, front_table
from jointsearch.study.analysis.prediction import predict_front
from jointsearch.study.analysis.verdict import Verdict
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

PREDICTED = "predicted"
LOG = "log"


@dataclass(frozen=True)
class Controls:
    """How a person has set the page, and what the browser shows."""

    by: Literal["size", "quality"]
    bound: float
    """Of the slider, which goes from ``least`` to ``most``."""
    least: float
    most: float
    steps: str
    """How long the trials that are shown have trained."""
    layers: Sequence[str]
    seen: Mapping[str, Any]
    """What the page shows, as ``shown`` has it."""
    zoom: Mapping[str, Any] | None = None
    """What a person has done to the axes."""
    axis: str = "model_bytes"
    """What the quality is seen against."""

    def wanted(self, table: FrontTable) -> Bound:
        """A slider at its end asks for nothing, also where the front has grown since; so does a new one."""
        widest = loosest(table, self.by)
        upwards = self.by == "size" or OBJECTIVES[table.quality].sign > 0
        end = self.most if upwards else self.least
        is_new = any(getattr(self, name) != self.seen[name] for name in ("by", "steps", "axis"))
        return widest if is_new or self.bound == end else Bound(self.by, self.bound)

    @property
    def is_zoomed(self) -> bool:
        return "xaxis.range[0]" in (self.zoom or {})


def lengths_of(study: StoredStudy, records: StudyRecords) -> list[str]:
    """How long trials have trained, rising: the study's own steps, and those of its finals."""
    return [str(steps) for steps in (study.config.calibration.steps, *records.lengths)]


def length_of(study: StoredStudy, records: StudyRecords) -> str:
    """That of what is shown."""
    return str(records.steps or study.config.calibration.steps)


def after(study: StoredStudy, records: StudyRecords, steps: str | None) -> StudyRecords:
    """As trials of that length have measured it; of one that there is not, what a person is to believe."""
    if steps not in lengths_of(study, records):
        return records.answer
    return records.at(None if steps == str(study.config.calibration.steps) else int(steps))


def axis_of(study: StoredStudy, records: StudyRecords, asked: str | None) -> str:
    """The axis that is asked for where the study has it, else its first one."""
    axes = axes_of(study, records)
    return asked if asked in axes else axes[0]


def verdict_of(study: StoredStudy, records: StudyRecords, verdict: Verdict) -> Any:
    """The banner; a verdict is at equal bytes of the model, whatever the axis."""
    table = front_table(study, records)
    return verdict_banner(table, banner(study, table, verdict))


def shown(
    version: str,
    bound: Bound,
    steps: str,
    layers: Sequence[str],
    choice: int | None,
    axis: str = "model_bytes",
) -> dict[str, Any]:
    """What a page shows: a version of the study, drawn for these controls."""
    return {
        "version": version,
        "by": bound.by,
        "bound": bound.value,
        "steps": steps,
        "layers": sorted(layers),
        "choice": choice,
        "axis": axis,
    }


def shown_front(
    studies: LiveStudies, study: StoredStudy, controls: Controls, trigger: str | None, look: Look
) -> dict[str, Any]:
    """What changes on the page after ``trigger``: its clock, or a control.

    Dash drops the answer to one trigger where another comes before it. So what is to change follows from
    what the page shows, and not from the trigger; only the clock brings what was measured since.
    """
    records = after(study, study.records(), controls.steps)
    seen, version = controls.seen, version_of(study, records)
    grown = version != seen["version"] and trigger == "front-clock"
    axis = axis_of(study, records, controls.axis)
    other_plans = grown or controls.steps != seen["steps"] or axis != seen["axis"]
    asks = (controls.by, sorted(controls.layers))
    redrawn = other_plans or asks != (seen["by"], seen["layers"])
    if not redrawn and controls.bound == seen["bound"]:
        raise PreventUpdate
    table, verdict = front_table(study, records, axis), studies.verdict(study, records)
    bound = controls.wanted(table)
    answer = _stays()
    predicted: tuple[PredictedPoint, ...] = ()
    notes = []
    try:
        point = best_within(table, bound)
        plans = [point.plan]
        answer["best"] = chosen_lines(table, point, verdict, Scale.of(study.space, plans))
        choice = point.trial
    except StudyError as error:
        choice = None
        notes.append(html.P(str(error)))
    if PREDICTED in controls.layers and redrawn:
        try:
            predicted = _predicted(study, records, axis)
        except StudyError as error:
            notes.append(html.P(str(error)))
    if notes:
        answer["best"] = [*(answer["best"] if choice is not None else []), *notes]
    log_bytes = LOG in controls.layers
    figure = front_figure(table, choice, bound, predicted, log_bytes=log_bytes, look=look)
    scaled = log_bytes != (LOG in seen["layers"]) or (controls.steps, axis) != (seen["steps"], seen["axis"])
    answer["figure"] = _patched(
        figure, redrawn=redrawn, ranges=scaled or (redrawn and not controls.is_zoomed)
    )
    if other_plans or controls.by != seen["by"]:
        answer |= _bounds(table, bound)
    if other_plans:
        answer["verdict"] = verdict_of(study, records, verdict)
        answer["points"] = front_lines(table, verdict)
        answer["outside"] = outside(table, look)
    now = version if grown else seen["version"]
    answer["seen"] = shown(now, bound, controls.steps, controls.layers, choice, axis)
    return answer


def _predicted(study: StoredStudy, records: StudyRecords, axis: str) -> tuple[PredictedPoint, ...]:
    if axis != "model_bytes":
        raise StudyError("The search's model foretells the best plan of a size: see it against size.")
    return predict_front(study, records)


def _patched(figure: Any, *, redrawn: bool, ranges: bool) -> Patch:
    """The parts of a figure that have changed; the rest stays as the browser has it, zoom and all."""
    patch = Patch()
    patch["layout"]["shapes"] = figure.layout.shapes
    patch["layout"]["annotations"] = figure.layout.annotations
    if not redrawn:
        patch["data"][-1] = figure.data[-1]
        return patch
    patch["data"] = figure.data
    if ranges:
        patch["layout"]["xaxis"] = figure.layout.xaxis
        patch["layout"]["yaxis"] = figure.layout.yaxis
    return patch


def _stays() -> dict[str, Any]:
    """A slider moves many times a second: what does not depend on it stays."""
    names = ("points", "verdict", "outside", "ends", "word", "unit", "suffix", "bounds", "best")
    return {**dict.fromkeys(names, no_update), "slider": dict.fromkeys(SLIDER, no_update)}


def _bounds(table: FrontTable, bound: Bound) -> dict[str, Any]:
    suffix, size = unit_of(table, bound.by)
    lower = bound.by == "size" or OBJECTIVES[table.quality].sign > 0
    return {
        "slider": slider_of(table, bound),
        "ends": ends_of(table, bound.by),
        "word": "At most" if lower else "At least",
        "unit": size,
        "suffix": suffix,
        "bounds": bounds_by(table),
    }
