"""One measured plan: what it says, where its bytes go, and how it was trained."""

from __future__ import annotations

from dataclasses import dataclass

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.measurement import LossPoint
from jointsearch.plan.formats import FORMATS, OF_BITS
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.plan import Plan
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint, front_table
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

OUTSIDE = "outside of blocks"


@dataclass(frozen=True)
class Cell:
    """What a plan says about one module."""

    module: str
    """Full name."""
    format: str
    """Of its frozen weight."""
    rank: int
    block: str
    column: str
    """The module's name within its block."""
    part: str = ""
    """What it is for: ``attention``, ``mlp``, …"""

    @property
    def bits(self) -> int:
        return FORMATS[self.format].bits

    @property
    def shown_format(self) -> str:
        """By its bits, where they name it."""
        return f"{self.bits} bits" if OF_BITS.get(self.bits) == self.format else self.format


@dataclass(frozen=True)
class PlanDifference:
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
    comparison: PlanDifference | None
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
    point = table.point(trial)
    measurement = point.measured.measurement
    return PlanTable(
        point=point,
        cells=cells_of(study.layout, point.plan),
        bytes_by_part=point.cost.bytes_by_part,
        train_losses=measurement.train_losses,
        validation_losses=measurement.validation_losses,
        comparison=_to_nearest_uniform(table, point),
        metrics=measurement.metrics,
    )


def cells_of(layout: ModelLayout, plan: Plan) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            spec.name,
            plan.modules[spec.name].format,
            plan.modules[spec.name].rank,
            *_place(spec),
            spec.part.value,
        )
        for spec in layout.modules
    )


def _place(spec: ModuleSpec) -> tuple[str, str]:
    """Block, and the module's name within it."""
    if not spec.block:
        return OUTSIDE, spec.name
    return spec.block, spec.name.partition(f"{spec.block}.")[2] or spec.name


def _to_nearest_uniform(table: FrontTable, point: PlanPoint) -> PlanDifference | None:
    rivals = [
        other for other in table.points if other.measured.origin.kind == "uniform" and other is not point
    ]
    if not rivals:
        return None
    nearest = min(rivals, key=lambda rival: (abs(rival.model_bytes - point.model_bytes), rival.trial))
    sign = OBJECTIVES[table.quality].sign
    return PlanDifference(
        nearest.label,
        sign * (nearest.quality - point.quality),
        point.model_bytes / nearest.model_bytes - 1,
    )
