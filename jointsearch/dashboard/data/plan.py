"""One measured plan: what it says, where its bytes go, and how it was trained."""

from __future__ import annotations

from dataclasses import dataclass

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.measurement import LossPoint
from jointsearch.plan.formats import FORMATS, OF_BITS
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.memory import StretchKind, TrainingMemory, training_memory
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


STRETCHES: dict[StretchKind, str] = {
    "forward": "in the forward pass",
    "loss": "at the loss",
    "backward": "in the backward pass",
    "step": "in the optimizer's step",
}


@dataclass(frozen=True)
class PlanMemory:
    """What a step of training takes of a plan, foretold."""

    taken: TrainingMemory
    conditions: str
    """The batch and the device that it is foretold for, and where in a step it is the most."""

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by what they are for; all of them together are the total."""
        return {
            "frozen weights": self.taken.weight_bytes,
            "adapter": self.taken.adapter_bytes,
            "optimizer": self.taken.optimizer_bytes,
            "gradients": self.taken.gradient_bytes,
            "activations": self.taken.activation_bytes,
        }


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
    training: PlanMemory | None = None
    """None where nobody can foretell it."""

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
        training=plan_memory(study, point.measured.plan),
    )


def plan_memory(study: StoredStudy, plan: Plan) -> PlanMemory | None:
    """``plan``: as it was asked for, with the ranks that it begins with."""
    profile = study.memory
    taken = training_memory(profile, study.layout, plan) if profile else None
    if profile is None or taken is None:
        return None
    size = f"{profile.batch_size} × {profile.context_length:,} tokens" if profile.lengths else "a batch"
    return PlanMemory(taken, f"{size} on {profile.device}; the most {STRETCHES[taken.stretch]}")


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
