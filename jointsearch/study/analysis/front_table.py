"""A study's measured plans beside each other, as plain data for commands, pages, reports and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.front.pareto import is_on_front
from jointsearch.front.selection import FrontPoint, at_knee
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import PlanCost, plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.study.analysis.verdict import PointVerdict, Verdict
from jointsearch.study.full_runs import selected
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

FORETOLD = ("training_memory", "serving_memory")


@dataclass(frozen=True)
class PlanPoint:
    """A measured plan among the others. What it weighs is counted when it is asked for."""

    measured: MeasuredPlan
    layout: ModelLayout
    on_front: bool
    knee: bool
    selected: bool
    """Whether one of its trials was selected last."""

    @property
    def trial(self) -> int:
        """The trial that measured the plan first."""
        return self.measured.number

    @property
    def label(self) -> str:
        """Of a uniform plan or a strategy; empty for others."""
        return self.measured.origin.name

    @property
    def baseline(self) -> bool:
        """Whether it is a uniform plan or one of a strategy."""
        return self.measured.origin.is_named

    @property
    def quality(self) -> float:
        """The first objective: mean over the seeds."""
        return next(iter(self.measured.values.values()))

    @property
    def standard_error(self) -> float | None:
        """Of that mean; None where there is one seed alone."""
        return self.measured.standard_error(next(iter(self.measured.values)))

    @property
    def num_seeds(self) -> int:
        return len(self.measured.trials)

    @property
    def model_bytes(self) -> int:
        return self.measured.measurement.model_bytes

    @property
    def bits_per_weight(self) -> float:
        return self.cost.bits_per_weight

    @property
    def trainable_share(self) -> float:
        return self.measured.measurement.trainable_share

    @property
    def training_memory(self) -> int:
        """Foretold; 0 where it cannot be."""
        return self.measured.measurement.training_memory

    @property
    def serving_memory(self) -> int:
        """Foretold; 0 where it cannot be."""
        return self.measured.measurement.serving_memory

    @property
    def peak_memory_bytes(self) -> int:
        return self.measured.measurement.peak_memory_bytes

    @property
    def plan(self) -> Plan:
        """With the ranks that it has ended with, where they adapt."""
        return self.measured.trained_plan

    @cached_property
    def cost(self) -> PlanCost:
        return plan_cost(self.layout, self.plan)

    def bytes_on(self, axis: str) -> int:
        """What it takes of an objective in bytes; 0 where that is not known."""
        return bytes_on(self.measured, axis)


def bytes_on(measured: MeasuredPlan, axis: str) -> int:
    """What a plan takes of an objective in bytes; 0 where that is not known."""
    return int(getattr(measured.measurement, axis))


@dataclass(frozen=True)
class FrontTable:
    """All measured plans of a study, by the number of their first trial."""

    study: str
    quality: str
    """Name of the first objective."""
    points: tuple[PlanPoint, ...]
    long_steps: int | None = None
    """How long the trials have trained; None for the study's own length."""
    axis: str = "model_bytes"
    """The objective in bytes that the quality is seen against."""
    limit: int | None = None
    """Bytes on that axis beyond which the search proposes no plan."""

    @cached_property
    def front(self) -> tuple[PlanPoint, ...]:
        """By rising bytes on the axis."""
        front = (point for point in self.points if point.on_front)
        return tuple(sorted(front, key=lambda point: (self.bytes_of(point), point.trial)))

    @property
    def choices(self) -> list[FrontPoint]:
        """The front as ``selection`` wants it."""
        return [FrontPoint(point.trial, point.quality, self.bytes_of(point)) for point in self.front]

    def bytes_of(self, point: PlanPoint) -> int:
        """Those that the point takes on the axis."""
        return point.bytes_on(self.axis)

    def point(self, trial: int) -> PlanPoint:
        """Raises ``StudyError`` where no plan was measured first by that trial."""
        for point in self.points:
            if point.trial == trial:
                return point
        raise StudyError(f"the trial must have measured a plan of study '{self.study}', but got {trial}")


def front_table(study: StoredStudy, records: StudyRecords, axis: str | None = None) -> FrontTable:
    """The plans that have been measured so far; without a point before the first.

    ``axis``: one of ``axes_of``; the front is then that of the quality against it alone, of the plans whose
    bytes on it are known. By default it is the study's own, of all its objectives.
    """
    quality = study.config.quality
    measured, front, choices = records.measured, records.front, records.front_points
    if axis is not None and (quality, axis) != study.config.objectives:
        measured = tuple(plan for plan in measured if bytes_on(plan, axis))
        front, choices = _front_against(axis, measured, quality)
    on_front = {point.number for point in front}
    knee = at_knee(choices, quality).trial if on_front else None
    selection = selected(study.optuna_study)
    points = (
        PlanPoint(
            measured=plan,
            layout=study.layout,
            on_front=plan.number in on_front,
            knee=plan.number == knee,
            selected=any(trial.number == selection for trial in plan.trials),
        )
        for plan in measured
    )
    axis = axis or "model_bytes"
    space = study.config.search_space
    limits = {"model_bytes": space.max_model_bytes, "training_memory": space.max_training_memory}
    return FrontTable(study.name, quality, tuple(points), records.steps, axis, limits.get(axis))


def _front_against(
    axis: str, measured: Sequence[MeasuredPlan], quality: str
) -> tuple[tuple[MeasuredPlan, ...], list[FrontPoint]]:
    """The plans that no other dominates in the quality and on the axis, by rising bytes on it."""
    sign = OBJECTIVES[quality].sign
    rows = [(sign * plan.values[quality], bytes_on(plan, axis)) for plan in measured]
    kept = [plan for plan, keep in zip(measured, is_on_front(rows), strict=True) if keep] if rows else []
    front = tuple(sorted(kept, key=lambda plan: (bytes_on(plan, axis), plan.number)))
    return front, [FrontPoint(plan.number, plan.values[quality], bytes_on(plan, axis)) for plan in front]


def axes_of(study: StoredStudy, records: StudyRecords) -> tuple[str, ...]:
    """The objectives in bytes that the quality can be seen against: the study's own, the model's bytes, and
    what memory is foretold of its plans."""
    own = [name for name in study.config.objectives[1:] if OBJECTIVES[name].unit == "bytes"]
    foretold = [name for name in FORETOLD if any(bytes_on(plan, name) for plan in records.measured)]
    return tuple(dict.fromkeys((*own, "model_bytes", *foretold)))


def front_rows(table: FrontTable, verdict: Verdict) -> list[dict[str, Any]]:
    """The front by rising bytes, then the baselines, then the points that further seeds took off it.

    What a trial reports beside its objectives is rounded.
    """
    fallen = {point.number for point in verdict.fallen}
    comparisons = {entry.trial: entry for entry in verdict.comparisons}
    others = [point for point in table.points if not point.on_front]
    shown = (
        *table.front,
        *(point for point in others if point.baseline),
        *(point for point in others if point.trial in fallen and not point.baseline),
    )
    return [_row(point, comparisons.get(point.trial), fallen=point.trial in fallen) for point in shown]


def _row(point: PlanPoint, comparison: PointVerdict | None, *, fallen: bool) -> dict[str, Any]:
    rate = point.plan.learning_rate
    return {
        "trial": point.trial,
        "on_front": point.on_front,
        **point.measured.values,
        "model_bytes": point.model_bytes,
        "bytes_per_parameter": round(point.cost.bytes_per_parameter, 4),
        "bits_per_weight": round(point.bits_per_weight, 3),
        "trainable_parameters": point.cost.trainable_parameters,
        "trainable_share": round(point.trainable_share, 5),
        **_measured(point.measured.measurement),
        "label": point.label,
        "origin": point.measured.origin.kind,
        "num_seeds": point.num_seeds,
        "standard_error": point.standard_error,
        "fallen": fallen,
        "compared_to": comparison.rival if comparison else "",
        "gain": comparison.gain if comparison else None,
        "p_value": comparison.p_value if comparison else None,
        "significant": comparison.significant if comparison else False,
        "knee": point.knee,
        "selected": point.selected,
        **({} if rate is None else {"learning_rate": rate}),
    }


def _measured(measurement: Measurement) -> dict[str, Any]:
    """What a trial reports beside its objectives."""
    stability = measurement.stability
    return {
        **{f"validation_{name}": round(value, 6) for name, value in measurement.metrics.items()},
        "training_memory": measurement.training_memory,
        "serving_memory": measurement.serving_memory,
        "peak_memory_bytes": measurement.peak_memory_bytes,
        "seconds_per_epoch": round(measurement.seconds_per_epoch, 3),
        "tokens_per_second": round(measurement.tokens_per_second, 1),
        "inference_rate": round(measurement.inference_rate, 1),
        "nonfinite_steps": stability.nonfinite_steps,
        "largest_gradient_norm": round(stability.largest_gradient_norm, 4),
        "loss_spikes": stability.loss_spikes,
    }
