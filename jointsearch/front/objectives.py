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


_QUALITIES = (
    Objective("loss", "minimize", "validation loss: nats per token, example or span; squared error"),
    Objective("perplexity", "minimize", "exp(loss)"),
    Objective("bits_per_byte", "minimize", "validation loss, bits per byte of text"),
    Objective("accuracy", "maximize", "share of tokens, or of examples, predicted right"),
    Objective("exact_match", "maximize", "share of answers or outputs that equal the reference"),
    Objective("rouge1", "maximize", "ROUGE-1, F measure, 0 to 1"),
    Objective("rouge2", "maximize", "ROUGE-2, F measure, 0 to 1"),
    Objective("rougeL", "maximize", "ROUGE-L, F measure, 0 to 1"),
    Objective("bleu", "maximize", "corpus BLEU of sacreBLEU, 0 to 100"),
    Objective("f1", "maximize", "F1 of the positive class, or of the words of answers, 0 to 1"),
    Objective("f1_macro", "maximize", "mean F1 of the classes, 0 to 1"),
    Objective("matthews", "maximize", "Matthews correlation coefficient, -1 to 1"),
    Objective("pearson", "maximize", "Pearson correlation, -1 to 1"),
    Objective("spearman", "maximize", "Spearman rank correlation, -1 to 1"),
)

_COSTS = (
    Objective("model_bytes", "minimize", "bytes of the saved checkpoint and adapter"),
    Objective("peak_memory_bytes", "minimize", "peak memory, the worker's own included"),
    Objective("tokens_per_second", "maximize", "training speed"),
    Objective("inference_rate", "maximize", "tokens generated, or examples read, per second"),
)

OBJECTIVES = {objective.name: objective for objective in (*_QUALITIES, *_COSTS)}

QUALITIES = tuple(objective.name for objective in _QUALITIES)
"""What the first objective can be, where the task measures it."""

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
    if objective in ("tokens_per_second", "inference_rate"):
        return f"{value:.4g}/s"
    return f"{value:.4f}"
