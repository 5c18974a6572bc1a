"""What a person reads of a plan among the others."""

from __future__ import annotations

from jointsearch.dashboard.data.plan import PlanTable
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint


def point_lines(table: FrontTable, point: PlanPoint) -> list[str]:
    """The lines that a person reads of a point."""
    spread = "" if point.standard_error is None else f" ± {format_value(table.quality, point.standard_error)}"
    seeds = f" ({point.num_seeds} seeds)" if point.num_seeds > 1 else ""
    return [
        f"trial {point.trial}" + (f", {point.label}" if point.label else ""),
        f"{table.quality} {format_value(table.quality, point.quality)}{spread}{seeds}",
        f"{format_bytes(point.model_bytes)}, {point.bits_per_weight:.2f} bits per weight",
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
