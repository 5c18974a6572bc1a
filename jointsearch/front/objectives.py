"""The objectives that a study can have, by name: which way is better, and how a value is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from jointsearch.registry import Registry

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """A number that every trial has; the first objective of a study is its quality."""

    name: str
    direction: Direction
    description: str = ""
    is_cost: bool = False
    """Whether it says what a plan costs, whatever the task; if not, the study's task must measure it."""
    unit: Literal["", "bytes", "per second"] = ""
    """How its values are written."""
    measure: Callable[[Any], float] | None = None
    """Its value, of the trial's ``Measurement``; by default the metric or the field of its name."""

    @property
    def sign(self) -> int:
        """+1 where lower is better, -1 where higher is: ``sign * value`` is always minimized."""
        return 1 if self.direction == "minimize" else -1


class ObjectiveRegistry(Registry[Objective]):
    """The objectives that every study can have; those that one study declares are found by name too."""

    def __init__(self) -> None:
        super().__init__("objective")
        self._declared: dict[str, Objective] = {}

    def __getitem__(self, name: str) -> Objective:
        return self._declared[name] if name in self._declared else super().__getitem__(name)

    def declare(self, name: str, direction: Direction) -> None:
        """Know a study's own metric; raises ``ValueError`` where it is known with the other direction.

        A name has one direction in a process, so that values of several studies can stand side by side.
        """
        if name not in self:
            self._declared[name] = Objective(name, direction, "a metric of the study's own")
        elif self[name].direction != direction:
            raise ValueError(
                f"the objective '{name}' must be {self[name].direction}d, as elsewhere, but here it is "
                f"{direction}d; use another name"
            )


OBJECTIVES = ObjectiveRegistry()


def register_objective(objective: Objective) -> Objective:
    """Make an objective known by its name, for ``objectives`` of study files."""
    return OBJECTIVES.register(objective)


def qualities() -> tuple[str, ...]:
    """What the first objective can be, where the task measures it."""
    return tuple(name for name, objective in OBJECTIVES.items() if not objective.is_cost)


for _objective in (
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
    Objective("model_bytes", "minimize", "bytes of the saved checkpoint and adapter", True, "bytes"),
    Objective("training_memory", "minimize", "memory of a training step, foretold", True, "bytes"),
    Objective("serving_memory", "minimize", "model and cache of an example, foretold", True, "bytes"),
    Objective("peak_memory_bytes", "minimize", "peak memory, the worker's own included", True, "bytes"),
    Objective("tokens_per_second", "maximize", "training speed", True, "per second"),
    Objective("inference_rate", "maximize", "tokens generated, or examples read", True, "per second"),
):
    register_objective(_objective)

BYTE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(text: str) -> int:
    """``600kB``, ``1.5 MB``, ``2GiB`` or a bare number of bytes, as bytes; raises ``ValueError``."""
    units = {unit.lower(): size for unit, size in BYTE_UNITS.items()}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "": 1}
    match = re.fullmatch(r"\s*([0-9]{,20}\.?[0-9]{1,20})\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in units:
        raise ValueError(f"a size is a number with {', '.join(BYTE_UNITS)} or kiB…, but got '{text}'")
    return int(Decimal(match[1]) * units[match[2]])


def format_bytes(num_bytes: float) -> str:
    """``1234567`` as ``1.235 MB``: four digits, decimal units, as storage is sold and counted."""
    for unit, size in reversed(BYTE_UNITS.items()):
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.4g} {unit}" if size > 1 else f"{num_bytes:.0f} B"
    return "0 B"


def format_value(name: str, value: float) -> str:
    """A value of an objective, or of anything else that was measured, as people read it."""
    unit = OBJECTIVES[name].unit if name in OBJECTIVES else "bytes" if name.endswith("_bytes") else ""
    match unit:
        case "bytes":
            return format_bytes(value)
        case "per second":
            return f"{value:.4g}/s"
    return f"{value:.4f}"
