"""The objectives that a study can have, by name: which way is better, and how a value is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """A number that every trial has; the first objective of a study is its quality."""

    name: str
    direction: Direction
    description: str

    @property
    def sign(self) -> int:
        """+1 where lower is better, -1 where higher is: ``sign * value`` is always minimized."""
        return 1 if self.direction == "minimize" else -1


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("loss", "minimize", "validation loss, nats per token"),
        Objective("perplexity", "minimize", "exp(loss)"),
        Objective("bits_per_byte", "minimize", "validation loss, bits per byte of text"),
        Objective("accuracy", "maximize", "share of tokens predicted right"),
        Objective("model_bytes", "minimize", "bytes of the saved checkpoint and adapter"),
        Objective(
            "peak_memory_bytes",
            "minimize",
            "peak memory, the worker's own included",
        ),
        Objective("tokens_per_second", "maximize", "training speed"),
    )
}

QUALITIES = ("loss", "perplexity", "bits_per_byte", "accuracy")
"""What the first objective can be."""

BYTE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def format_bytes(num_bytes: float) -> str:
    """``1234567`` as ``1.235 MB``: four digits, decimal units, as storage is sold and counted."""
    for unit, size in reversed(BYTE_UNITS.items()):
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.4g} {unit}" if size > 1 else f"{num_bytes:.0f} B"
    return "0 B"


def format_value(objective: str, value: float) -> str:
    if objective.endswith("_bytes"):
        return format_bytes(value)
    if objective == "tokens_per_second":
        return f"{value:.0f}/s"
    return f"{value:.4f}"
