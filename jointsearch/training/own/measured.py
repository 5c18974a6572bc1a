"""What a Trainer has measured, in our words."""

from __future__ import annotations

import torch

from jointsearch.measurement import LossPoint
from jointsearch.training.own.callbacks import EVAL

CLOCK = ("runtime", "samples_per_second", "steps_per_second", "num_tokens", "model_preparation_time")
"""What Trainers measure of themselves."""


def trains(model: torch.nn.Module) -> bool:
    """Whether the model has anything to train."""
    return any(parameter.requires_grad for parameter in model.parameters())


def measured(found: dict[str, float]) -> dict[str, float]:
    """What a Trainer has measured, by the names without its prefix; its own clock left out."""
    named = {name.removeprefix(EVAL): value for name, value in found.items() if name.startswith(EVAL)}
    return {name: float(value) for name, value in named.items() if name not in CLOCK}


def losses_of(history: list[dict[str, float]], name: str) -> tuple[LossPoint, ...]:
    """The values of ``name`` among what was logged."""
    return tuple(LossPoint(step=int(row["step"]), loss=float(row[name])) for row in history if name in row)
