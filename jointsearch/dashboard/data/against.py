"""A plan beside one that needs no search: every number that both have."""

from __future__ import annotations

from dataclasses import dataclass

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint


@dataclass(frozen=True)
class Compared:
    """One number of both."""

    name: str
    plan: float
    rival: float

    @property
    def is_better(self) -> bool | None:
        """None where both are equal, or nobody knows which way is better."""
        if self.name not in OBJECTIVES or self.plan == self.rival:
            return None
        return OBJECTIVES[self.name].sign * (self.plan - self.rival) < 0


def default_rival(table: FrontTable, point: PlanPoint) -> PlanPoint | None:
    """The best one of no more bytes, or else the smallest."""
    others = [other for other in table.points if other.baseline and other.trial != point.trial]
    return rival_of(table, point) or min(others, key=table.bytes_of, default=None)


def compared(table: FrontTable, point: PlanPoint, rival: PlanPoint) -> tuple[Compared, ...]:
    """The quality as the front has it; the rest of the trials that measured the plans first."""
    one, other = point.measured.measurement, rival.measured.measurement
    rows = [Compared(table.quality, point.quality, rival.quality)]
    rows += [
        Compared(name, value, other.metrics[name])
        for name, value in one.metrics.items()
        if name != table.quality and name in other.metrics
    ]
    rows.append(Compared("model_bytes", point.model_bytes, rival.model_bytes))
    for name in ("peak_memory_bytes", "tokens_per_second", "inference_rate"):
        pair = getattr(one, name), getattr(other, name)
        if all(pair):
            rows.append(Compared(name, *pair))
    return tuple(rows)


def rival_of(table: FrontTable, point: PlanPoint) -> PlanPoint | None:
    """The best measured plan that needs no search of no more bytes on the axis than ``point``, but itself."""
    sign = OBJECTIVES[table.quality].sign
    others = [
        other
        for other in table.points
        if other.baseline and table.bytes_of(other) <= table.bytes_of(point) and other.trial != point.trial
    ]
    return min(others, key=lambda other: (sign * other.quality, table.bytes_of(other)), default=None)


def ladder_of(table: FrontTable) -> tuple[PlanPoint, ...]:
    """The best measured plans that need no search, by rising bytes: each is better than all smaller ones."""
    sign = OBJECTIVES[table.quality].sign
    found: list[PlanPoint] = []
    rungs = (point for point in table.points if point.baseline)
    for point in sorted(rungs, key=lambda rung: (table.bytes_of(rung), sign * rung.quality)):
        if not found or sign * point.quality < sign * found[-1].quality:
            found.append(point)
    return tuple(found)
