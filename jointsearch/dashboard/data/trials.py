"""All trials of a study, one a row, and what is drawn of each between parallel axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from optuna.trial import TrialState

from jointsearch.dashboard.words import plan_name
from jointsearch.plan.formats import FORMATS
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord

THIRDS = 3
MIN_BLOCKS_OF_THIRDS = 6
"""Fewer blocks are taken together."""
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Axis:
    """One of the parallel axes."""

    title: str
    low: float
    high: float


@dataclass(frozen=True)
class TrialsTable:
    """Every trial."""

    rows: tuple[dict[str, Any], ...]
    """What the grid shows, by column; numbers are numbers."""
    axes: tuple[Axis, ...]
    lines: dict[int, tuple[float, ...]]
    """By complete trial: where it crosses the axes, 0 at their lower ends and 1 at their upper ones."""

    def count(self, kind: str) -> int:
        return sum(row["kind"] == kind for row in self.rows)


def trials_table(study: StoredStudy, records: StudyRecords) -> TrialsTable:
    on_front = {trial.number for point in records.answer.front for trial in point.trials}
    rows = tuple(
        {**_row(trial, on_front), "steps": trial.steps or study.config.calibration.steps}
        for trial in records.trials
    )
    # finals have other losses, and the plans of trials
    axes, lines = _parallel(study.layout, records.at(None).complete, records.objectives)
    return TrialsTable(rows, axes, lines)


def _row(trial: TrialRecord, on_front: set[int]) -> dict[str, Any]:
    complete = trial.state == TrialState.COMPLETE
    row: dict[str, Any] = {
        "trial": trial.number,
        "plan": plan_name(trial.number, trial.origin.name),
        "kind": _kind(trial, on_front),
        "state": STATES[trial.state],
        "seed": trial.seed,
        "rate": trial.learning_rate,
        "seconds": None if trial.seconds is None else round(trial.seconds, 1),
        "worker": trial.worker,
        "failure": trial.failure,
    }
    if complete:
        row |= {name: round(value, 6) for name, value in trial.values.items()}
        row["megabytes"] = round(trial.values.get("model_bytes", trial.measurement.model_bytes) / 1e6, 4)
        row |= {name: round(size / 1e6, 4) for name, size in trial.measurement.memory.items()}
        row["trainable"] = round(100 * trial.measurement.trainable_share, 3)
    return row


def _kind(trial: TrialRecord, on_front: set[int]) -> str:
    """Where the trial belongs: a part of the list that one can look at alone."""
    if trial.number in on_front:
        return "front"
    if trial.state == TrialState.FAIL:
        return "failed"
    return "named" if trial.origin.is_named else "searched"


Key = tuple[str, str]
"""A part, and a part of the depth."""


def _parallel(
    layout: ModelLayout, trials: Sequence[TrialRecord], objectives: Sequence[str]
) -> tuple[tuple[Axis, ...], dict[int, tuple[float, ...]]]:
    if not trials:
        return (), {}
    places = _places(layout)
    keys = tuple(dict.fromkeys(places.values()))
    values: dict[int, list[float]] = {}
    for trial in trials:
        size = trial.values.get("model_bytes", trial.measurement.model_bytes)
        bits, ranks = _means(trial.plan, tuple(places.items()))
        first = [size / 1e6, trial.values[objectives[0]]]
        values[trial.number] = first + [bits[key] for key in keys] + [ranks[key] for key in keys]
    titles = ["size (MB)", objectives[0]]
    titles += [f"{part} bits{where}" for part, where in keys] + [
        f"{part} rank{where}" for part, where in keys
    ]
    columns = list(zip(*values.values(), strict=True))
    axes = tuple(Axis(title, min(column), max(column)) for title, column in zip(titles, columns, strict=True))
    # an axis on which all trials agree tells nothing
    telling = [number for number, axis in enumerate(axes) if axis.high > axis.low] or [0, 1]
    lines = {
        trial: tuple(round(_place(row[n], axes[n]), 3) for n in telling) for trial, row in values.items()
    }
    return tuple(axes[n] for n in telling), lines


def _place(value: float, axis: Axis) -> float:
    return (value - axis.low) / ((axis.high - axis.low) or 1)


def _places(layout: ModelLayout) -> dict[str, Key]:
    """By module: its part and its third of the blocks; what is outside of blocks is left out."""
    blocks = list(dict.fromkeys(spec.block for spec in layout.modules if spec.block))
    numbers = {block: position for position, block in enumerate(blocks)}
    found = {}
    for spec in layout.modules:
        if spec.block and (spec.quantizable or spec.adaptable):
            found[spec.name] = spec.part.value, _third(numbers[spec.block], len(blocks))
    return found


def _third(position: int, count: int) -> str:
    """`` 0–7`` of 24 blocks."""
    if count < MIN_BLOCKS_OF_THIRDS:
        return ""
    third = position * THIRDS // count
    first, last = -(-third * count // THIRDS), -(-(third + 1) * count // THIRDS) - 1
    return f" {first}–{last}"


@lru_cache(maxsize=20_000)
def _means(plan: Plan, places: tuple[tuple[str, Key], ...]) -> tuple[dict[Key, float], dict[Key, float]]:
    """Mean bits and mean rank of each place."""
    bits: dict[Key, list[int]] = {}
    ranks: dict[Key, list[int]] = {}
    for name, key in places:
        choice = plan.modules[name]
        bits.setdefault(key, []).append(FORMATS[choice.format].bits)
        ranks.setdefault(key, []).append(choice.rank)
    return (
        {key: sum(values) / len(values) for key, values in bits.items()},
        {key: sum(values) / len(values) for key, values in ranks.items()},
    )


def safe_name(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "study"
