"""Pieces of a training loop: batches in a fixed order, seconds by phase, losses that must be finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from jointsearch.config.study import CalibrationSettings
from jointsearch.errors import TrialFailed
from jointsearch.measurement import LossPoint
from jointsearch.training.checkpoint import Progress
from jointsearch.training.stability import StabilityTracker
from jointsearch.training.tasks import Batch, Task

NUM_LOSS_POINTS = 20
"""How many points of the training loss are kept."""


def batches(task: Task, settings: CalibrationSettings, seed: int) -> Iterator[Batch]:
    """``steps`` training batches in an order that ``seed`` fixes; epoch after epoch if need be."""
    generator = np.random.default_rng(seed)
    drawn_from = np.arange(task.num_examples("train"))
    if settings.train_examples is not None:
        # the same for every seed: repeats differ in the order of the batches, not in the data
        drawn_from = np.random.default_rng(0).permutation(drawn_from)[: settings.train_examples]
    order: list[int] = []
    for _ in range(settings.steps):
        while len(order) < settings.batch_size:
            order += generator.permutation(drawn_from).tolist()
        indices, order = order[: settings.batch_size], order[settings.batch_size :]
        yield task.batch("train", indices)


def finite(kind: str, loss: float, step: int) -> float:
    """``loss``, or ``TrialFailed`` where it is none."""
    if not math.isfinite(loss):
        raise TrialFailed(f"diverged: the {kind} loss is {loss} at step {step}")
    return loss


def mean_losses(progress: Progress, steps: int) -> tuple[LossPoint, ...]:
    """The training loss at about ``NUM_LOSS_POINTS`` points: means over the finite steps since the last."""
    every = max(1, steps // NUM_LOSS_POINTS)
    points: list[LossPoint] = []
    for end in sorted({*range(every, steps + 1, every), steps}):
        since = points[-1].step if points else 0
        finite = [loss for loss, _ in progress.steps[since:end] if math.isfinite(loss)]
        if finite:
            points.append(LossPoint(step=end, loss=sum(finite) / len(finite)))
    return tuple(points)


def stability_of(progress: Progress) -> StabilityTracker:
    tracker = StabilityTracker()
    for loss, norm in progress.steps:
        tracker.saw(loss, norm)
    return tracker


class Clock:
    """Adds up seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
