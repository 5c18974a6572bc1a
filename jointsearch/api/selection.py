"""A point of a study that a person has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jointsearch.errors import StudyError
from jointsearch.front.objectives import parse_bytes
from jointsearch.front.selection import at_knee, within_bytes, within_memory, within_quality
from jointsearch.plan.plan import Plan
from jointsearch.study.full_runs import select_trial
from jointsearch.study.plans import complete_trial, export_plan, records_with_front
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class Selection:
    """A complete trial, with its plan as it is exported and trained."""

    trial: int
    values: Mapping[str, float]
    """By objective: on the front means over the seeds that it was measured with."""
    plan: Plan
    _study: StoredStudy = field(repr=False, compare=False)

    def request_full_run(self, note: str = "") -> None:
        """Have the plan trained in full by ``jointsearch worker --full-runs``, and exported by default."""
        select_trial(self._study.optuna_study, self.trial, note)


def select(
    study: StoredStudy,
    *,
    max_bytes: int | str | None = None,
    knee: bool = False,
    trial: int | None = None,
    quality: float | None = None,
    max_training_memory: int | str | None = None,
) -> Selection:
    """The point that is wanted, by at most one of the ways; raises ``StudyError``."""
    ways = {
        "max_bytes": max_bytes,
        "knee": knee or None,
        "trial": trial,
        "quality": quality,
        "max_training_memory": max_training_memory,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise StudyError(f"a point must be selected by one of {', '.join(ways)}, but got {given}")
    number = trial if trial is not None else _point(study, max_bytes, max_training_memory, quality)
    chosen = complete_trial(study, number)
    on_front = {point.number: point.values for point in study.records().answer.front}
    plan = export_plan(study, number).with_context
    return Selection(number, on_front.get(number, chosen.values), plan, study)


def _point(
    study: StoredStudy,
    max_bytes: int | str | None,
    max_training_memory: int | str | None,
    quality: float | None,
) -> int:
    records, metric = records_with_front(study), study.config.quality
    points = records.front_points
    if max_training_memory is not None:
        needed = {point.number: point.measurement.training_memory for point in records.front}
        limit = size_in_bytes(max_training_memory, "max_training_memory")
        return within_memory(points, needed, limit, metric).trial
    if max_bytes is not None:
        return within_bytes(points, size_in_bytes(max_bytes), metric).trial
    if quality is not None:
        return within_quality(points, quality, metric).trial
    return at_knee(points, metric).trial


def size_in_bytes(max_bytes: int | str, name: str = "max_bytes") -> int:
    """A number of bytes, or a text such as ``1.5MB``; raises ``StudyError``."""
    try:
        return parse_bytes(str(max_bytes))
    except ValueError as error:
        raise StudyError(f"{name}: {error}") from None
