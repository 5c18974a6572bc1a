"""A study's measured plans beside each other, as plain data for commands, pages, reports and notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jointsearch.errors import StudyError
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


@dataclass(frozen=True)
class FrontTable:
    """All measured plans of a study, by the number of their first trial."""

    study: str
    quality: str
    """Name of the first objective."""
    points: tuple[PlanPoint, ...]
    long_steps: int | None = None
    """How long the trials have trained; None for the study's own length."""

    @cached_property
    def front(self) -> tuple[PlanPoint, ...]:
        """By rising bytes."""
        return tuple(
            sorted((p for p in self.points if p.on_front), key=lambda point: (point.model_bytes, point.trial))
        )

    @property
    def choices(self) -> list[FrontPoint]:
        """The front as ``selection`` wants it."""
        return [FrontPoint(point.trial, point.quality, point.model_bytes) for point in self.front]

    def point(self, trial: int) -> PlanPoint:
        """Raises ``StudyError`` where no plan was measured first by that trial."""
        for point in self.points:
            if point.trial == trial:
                return point
        raise StudyError(f"the trial must have measured a plan of study '{self.study}', but got {trial}")


def front_table(study: StoredStudy, records: StudyRecords) -> FrontTable:
    """The plans that have been measured so far; without a point before the first."""
    quality = study.config.quality
    on_front = {point.number for point in records.front}
    knee = at_knee(records.front_points, quality).trial if on_front else None
    selection = selected(study.optuna_study)
    return FrontTable(
        study.name,
        quality,
        tuple(
            PlanPoint(
                measured=measured,
                layout=study.layout,
                on_front=measured.number in on_front,
                knee=measured.number == knee,
                selected=any(trial.number == selection for trial in measured.trials),
            )
            for measured in records.measured
        ),
        records.steps,
    )


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
