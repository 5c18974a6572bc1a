"""What the dashboard shows, as plain tables made from a study. No Plotly, no Dash, no torch.

Bytes are those of the saved checkpoint and adapter; seconds are wall time; a loss is in nats.
"""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.measurement import Example, LossPoint
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.plan import Plan
from jointsearch.search.additive.predicted_front import Effect
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint, front_table
from jointsearch.study.analysis.prediction import group_effects
from jointsearch.study.analysis.progress import Snapshot
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

OUTSIDE = "outside of blocks"


@dataclass(frozen=True)
class StudyRow:
    """A study in the list of studies."""

    name: str
    model: str
    task: str
    objectives: tuple[str, ...]
    complete: int
    pruned: int
    running: int
    waiting: int
    failed: int
    total: int
    """Trials that the search is to have, and those asked for on top."""
    trials_per_hour: float | None
    last_activity: datetime | None
    """When a trial last began or ended, by the clock of its worker."""


def study_row(study: StoredStudy, records: StudyRecords) -> StudyRow:
    snapshot = Snapshot.of(records, study.config.search.trials)
    moments = [
        moment
        for trial in records.trials
        for moment in (trial.frozen.datetime_start, trial.frozen.datetime_complete)
        if moment
    ]
    return StudyRow(
        name=study.name,
        model=study.config.model.id,
        task=study.config.task.type,
        objectives=records.objectives,
        complete=snapshot.complete,
        pruned=snapshot.pruned,
        running=snapshot.running,
        waiting=len(records.waiting),
        failed=snapshot.failed,
        total=snapshot.total,
        trials_per_hour=snapshot.trials_per_hour,
        last_activity=max(moments, default=None),
    )


@dataclass(frozen=True)
class Cell:
    """What a plan says about one module."""

    module: str
    """Full name."""
    bits: int
    rank: int
    block: str
    column: str
    """The module's name within its block."""


@dataclass(frozen=True)
class Comparison:
    """A plan against a uniform one."""

    label: str
    gain: float
    """How much better the quality is; negative where it is worse, whichever way is better."""
    byte_share: float
    """Bytes relative to the uniform plan's: -0.04 is 4 % fewer."""


@dataclass(frozen=True)
class PlanTable:
    """One measured plan: what it says, where its bytes go, and how its calibration went."""

    point: PlanPoint
    cells: tuple[Cell, ...]
    """In the order of the forward pass."""
    bytes_by_part: dict[str, int]
    train_losses: tuple[LossPoint, ...]
    validation_losses: tuple[LossPoint, ...]
    comparison: Comparison | None
    """To the measured uniform plan of nearest size; None where there is no other."""
    metrics: dict[str, float]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Top to bottom."""
        return tuple(dict.fromkeys(cell.block for cell in self.cells))

    @property
    def columns(self) -> tuple[str, ...]:
        """Left to right; modules within blocks first."""
        inside = [cell.column for cell in self.cells if cell.block != OUTSIDE]
        outside = [cell.column for cell in self.cells if cell.block == OUTSIDE]
        return tuple(dict.fromkeys((*inside, *outside)))


def plan_table(study: StoredStudy, records: StudyRecords, trial: int) -> PlanTable:
    """The plan that ``trial`` measured first; raises ``StudyError``."""
    table = front_table(study, records)
    measured = _measured(study, records, trial)
    measurement = measured.measurement
    return PlanTable(
        point=table.point(trial),
        cells=_cells(study.layout, measured.trained_plan),
        bytes_by_part=plan_cost(study.layout, measured.trained_plan).bytes_by_part,
        train_losses=measurement.train_losses,
        validation_losses=measurement.validation_losses,
        comparison=_to_nearest_uniform(study, table, trial),
        metrics=measurement.metrics,
    )


@dataclass(frozen=True)
class Difference:
    """A module that two plans treat differently."""

    module: str
    first: Cell
    second: Cell


@dataclass(frozen=True)
class ExamplePair:
    """A validation example with what two models make of it."""

    input: str
    reference: str
    first: str
    second: str


@dataclass(frozen=True)
class PairTable:
    """Two plans side by side."""

    quality: str
    first: PlanPoint
    second: PlanPoint
    differences: tuple[Difference, ...]
    num_modules: int
    examples: tuple[ExamplePair, ...]
    """Those that both trials have stored, matched by input and reference."""


def pair_table(study: StoredStudy, records: StudyRecords, first: int, second: int) -> PairTable:
    """Raises ``StudyError`` where one of the trials has measured no plan first."""
    table = front_table(study, records)
    pair = [_measured(study, records, number) for number in (first, second)]
    cells = [_cells(study.layout, measured.trained_plan) for measured in pair]
    outputs = [_outputs(measured.measurement.examples) for measured in pair]
    return PairTable(
        quality=table.quality,
        first=table.point(first),
        second=table.point(second),
        differences=tuple(
            Difference(one.module, one, two)
            for one, two in zip(*cells, strict=True)
            if (one.bits, one.rank) != (two.bits, two.rank)
        ),
        num_modules=len(cells[0]),
        examples=tuple(
            ExamplePair(*key, outputs[0][key], outputs[1][key]) for key in outputs[0] if key in outputs[1]
        ),
    )


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that has ended, on the time line of its worker."""

    trial: int
    worker: str
    state: str
    """``complete``, ``pruned`` or ``failed``."""
    started: datetime
    ended: datetime


@dataclass(frozen=True)
class ProgressTable:
    """How a search goes."""

    hypervolume: tuple[tuple[int, float], ...]
    """(trial, share of the box that the plans up to it dominate); the box is the one of now (see
    ``StudyRecords.hypervolume``), so that the share never falls."""
    timeline: tuple[FinishedTrial, ...]
    failures: tuple[tuple[str, int], ...]
    """Reasons with how often each was met, the most frequent first."""
    seconds_by_phase: dict[str, float]
    """Median over the complete trials that were measured here."""
    share_saved: float
    """Of the training steps, by early stopping."""


def progress_table(study: StoredStudy, records: StudyRecords) -> ProgressTable:
    finished = (*records.complete, *records.pruned, *records.failed)
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    timeline = [
        FinishedTrial(
            trial.number,
            trial.worker or "unknown",
            states[trial.state.name],
            trial.frozen.datetime_start,
            trial.frozen.datetime_complete,
        )
        for trial in finished
        if trial.worker and trial.frozen.datetime_start and trial.frozen.datetime_complete
    ]
    phases: dict[str, list[float]] = {}
    for trial in records.complete:
        if trial.copy_of is None:
            for phase, seconds in trial.measurement.seconds.items():
                phases.setdefault(phase, []).append(seconds)
    return ProgressTable(
        hypervolume=records.hypervolume_curve,
        timeline=tuple(sorted(timeline, key=lambda trial: trial.trial)),
        failures=tuple(Counter(trial.failure or "unknown" for trial in records.failed).most_common()),
        seconds_by_phase={phase: statistics.median(seconds) for phase, seconds in phases.items()},
        share_saved=records.share_saved(study.config.calibration.steps),
    )


@dataclass(frozen=True)
class WhyTable:
    """What the parts of a plan are worth."""

    point: PlanPoint
    """The plan at which it is asked."""
    quality: str
    effects: tuple[Effect, ...]
    """By the model of the search, the largest first."""
    importances: dict[str, float]
    """Optuna's, by parameter, the largest first: shares of the variance of the quality (PED-ANOVA)."""


def why_table(study: StoredStudy, records: StudyRecords, trial: int) -> WhyTable:
    """At the plan that ``trial`` measured first; raises ``StudyError``, also where there are few trials."""
    table = front_table(study, records)
    plan = _measured(study, records, trial).plan
    return WhyTable(
        table.point(trial), table.quality, group_effects(study, records, plan), _importances(study)
    )


def _importances(study: StoredStudy) -> dict[str, float]:
    """Empty where too few trials have parameters, or all of them are equally good."""
    sign = OBJECTIVES[study.config.quality].sign
    try:
        with experimental_optuna(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that lower is taken for better, as is meant
            return get_param_importances(
                study.optuna_study,
                evaluator=PedAnovaImportanceEvaluator(),
                params=list(study.space.parameters),
                target=lambda trial: sign * trial.values[0],
            )
    except (ValueError, RuntimeError):
        return {}


def _measured(study: StoredStudy, records: StudyRecords, trial: int) -> MeasuredPlan:
    for measured in records.measured:
        if measured.number == trial:
            return measured
    raise StudyError(f"the trial must have measured a plan of study '{study.name}', but got {trial}")


def _cells(layout: ModelLayout, plan: Plan) -> tuple[Cell, ...]:
    return tuple(
        Cell(spec.name, plan.modules[spec.name].bits, plan.modules[spec.name].rank, *_place(spec))
        for spec in layout.modules
    )


def _place(spec: ModuleSpec) -> tuple[str, str]:
    """Block, and the module's name within it."""
    if not spec.block:
        return OUTSIDE, spec.name
    return spec.block, spec.name.partition(f"{spec.block}.")[2] or spec.name


def _to_nearest_uniform(study: StoredStudy, table: FrontTable, trial: int) -> Comparison | None:
    names = {baseline.origin.name for baseline in study.space.baselines()}
    point = table.point(trial)
    rivals = [other for other in table.points if other.label in names and other.trial != trial]
    if not rivals:
        return None
    nearest = min(rivals, key=lambda rival: (abs(rival.model_bytes - point.model_bytes), rival.trial))
    sign = OBJECTIVES[table.quality].sign
    return Comparison(
        nearest.label,
        sign * (nearest.quality - point.quality),
        point.model_bytes / nearest.model_bytes - 1,
    )


def _outputs(examples: Sequence[Example]) -> dict[tuple[str, str], str]:
    return {(example.input, example.reference): example.output for example in examples}
