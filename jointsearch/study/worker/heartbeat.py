"""Heartbeats of this worker, which others tell by whether it is alive."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

import optuna

from jointsearch.measurement import LossPoint
from jointsearch.study.full_runs import FullRun, write
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.heartbeats import record_heartbeat
from jointsearch.study.storage.outages import outlast, repeat


@contextmanager
def heartbeat(trial: optuna.Trial) -> Iterator[None]:
    """The trial's, inside the block; the first one is written before it begins."""
    counter = itertools.count()

    def beat() -> None:
        record_heartbeat(trial, next(counter))

    outlast(beat)
    with repeat(beat, heartbeats.HEARTBEAT_SECONDS):
        yield


class HeldRun:
    """A full run that is this worker's, for as long as its heart beats."""

    def __init__(self, study: optuna.Study, run: FullRun) -> None:
        self.run = run
        self.taken_over = False
        """By another worker: this one was silent for too long."""
        self._study = study

    def at_step(self, step: int, num_steps: int, loss: float | None = None) -> None:
        """Written with the next heartbeat; ``loss``: on the validation data, where it was measured."""
        # a run that goes on from its last checkpoint measures some steps again
        losses = [point for point in self.run.validation_losses if point.step <= step]
        if loss is not None and math.isfinite(loss):
            losses = [*(point for point in losses if point.step < step), LossPoint(step=step, loss=loss)]
        update = {"step": step, "num_steps": num_steps, "validation_losses": tuple(losses)}
        self.run = self.run.model_copy(update=update)

    def heartbeat(self) -> AbstractContextManager[None]:
        """The run's, inside the block; the claim was the first one."""
        return repeat(self._beat, heartbeats.HEARTBEAT_SECONDS)

    def _beat(self) -> None:
        if not self.taken_over:
            alive = self.run.model_copy(update={"heartbeat": datetime.now(UTC)})
            self.taken_over = not write(self._study, alive)
