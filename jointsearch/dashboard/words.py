"""What a person reads of plans, differences and times."""

from __future__ import annotations

import re
from datetime import datetime

from jointsearch.dashboard.data.plan import PlanTable
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint

MINUS = "\u2212"
AXES = {
    "model_bytes": ("size", "model size"),
    "training_memory": ("to train", "memory to train"),
    "serving_memory": ("to serve", "memory to serve"),
    "peak_memory_bytes": ("peak memory", "peak memory"),
}
"""Objectives in bytes as controls and tables name them, and as axes do."""


def axis_name(axis: str) -> str:
    """Of an objective in bytes: ``size``, ``to train``."""
    return AXES[axis][0] if axis in AXES else axis.removesuffix("_bytes").replace("_", " ")


def axis_title(axis: str) -> str:
    return AXES[axis][1] if axis in AXES else axis_name(axis)


def plan_name(trial: int, label: str = "") -> str:
    """``plan 159``, or a uniform plan's name: ``4-bit r16`` for ``uniform 4-bit rank 16``."""
    return short_name(label) if label else f"plan {trial}"


def short_name(label: str) -> str:
    return re.sub(r" rank (\d+)", r" r\1", label.replace("uniform ", ""))


def name_of(point: PlanPoint) -> str:
    return plan_name(point.trial, point.label)


def point_lines(table: FrontTable, point: PlanPoint) -> list[str]:
    """The lines that a person reads of a point."""
    spread = "" if point.standard_error is None else f" ± {format_value(table.quality, point.standard_error)}"
    seeds = f" ({point.num_seeds} seeds)" if point.num_seeds > 1 else ""
    return [
        f"trial {point.trial}" + (f", {point.label}" if point.label else ""),
        f"{table.quality} {format_value(table.quality, point.quality)}{spread}{seeds}",
        f"{format_bytes(point.model_bytes)}, {point.bits_per_weight:.2f} bits per weight",
        *([f"{format_bytes(point.training_memory)} to train, foretold"] if point.training_memory else []),
        f"{point.trainable_share:.2%} trainable"
        + (f", peak memory {format_bytes(point.peak_memory_bytes)}" if point.peak_memory_bytes else ""),
    ]


def difference_text(front: FrontTable, table: PlanTable) -> str:
    """``+0.0130 loss better at -4.0 % bytes than uniform 4-bit rank 8``."""
    compared = table.comparison
    if compared is None:
        return "No uniform plan has been measured to compare it with."
    way = "better" if compared.gain >= 0 else "worse"
    amount = format_value(front.quality, abs(compared.gain))
    return f"{amount} {front.quality} {way} at {100 * compared.byte_share:+.1f} % bytes than {compared.label}"


def signed(text: str) -> str:
    """With a sign, and a minus as long as a plus."""
    return f"{MINUS}{text[1:]}" if text.startswith("-") else f"+{text}"


def better_by(quality: str, gain: float, error: float | None = None) -> str:
    """A gain as the change of the quality that it is: ``−0.0340 ± 0.0080`` of a loss."""
    shown = signed(format_value(quality, -OBJECTIVES[quality].sign * gain))
    return shown + (f" ± {format_value(quality, error)}" if error is not None else "")


def lower_or_higher(quality: str) -> str:
    """Which way a quality is better."""
    return "lower" if OBJECTIVES[quality].sign > 0 else "higher"


def unit_of(quality: str) -> str:
    return f"{quality} (nats)" if quality == "loss" else quality


def duration(seconds: float) -> str:
    """``9 s``, ``31 min``, ``2.5 h``, ``3 days``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def rate_of(trials_per_hour: float) -> str:
    return f"{trials_per_hour:,.0f} per hour" if trials_per_hour >= 10 else f"{trials_per_hour:.2g} per hour"


def ago(moment: datetime, now: datetime) -> str:
    return f"{duration(max(0.0, (now - moment).total_seconds()))} ago"
