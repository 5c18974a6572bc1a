"""The steps of a trial: batches in a fixed order, one optimizer step each, losses and seconds noted down."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from torch import nn
from transformers import get_scheduler

from jointsearch.config.study import StudyConfig
from jointsearch.config.training import CalibrationSettings
from jointsearch.errors import TrialFailed, TrialInterrupted
from jointsearch.measurement import LossPoint
from jointsearch.runner import Trial
from jointsearch.training.checkpoint import Checkpoint, Progress
from jointsearch.training.methods.base import TrainingMethod
from jointsearch.training.model.setup import autocast, build_optimizer, forward_pass
from jointsearch.training.stability import StabilityTracker
from jointsearch.training.tasks import Batch, Task

NUM_LOSS_POINTS = 20
"""How many points of the training loss are kept."""


class TrainingLoop:
    """Trains the model of a trial in place."""

    def __init__(self, model: nn.Module, task: Task, config: StudyConfig, method: TrainingMethod) -> None:
        self._model = model
        self._task = task
        self._method = method
        self._settings = settings = config.calibration.at()
        self._device = next(model.parameters()).device
        self._training = config.training
        self._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self._trainable:
            rate = float(settings.learning_rate)
            groups = method.parameter_groups(model, rate)
            self._optimizer = build_optimizer(groups, config.training, rate, settings.weight_decay)
            self._scheduler = get_scheduler("linear", self._optimizer, settings.warmup_steps, settings.steps)

    def run(self, trial: Trial, clock: Clock, checkpoint: Checkpoint | None = None) -> Progress:
        """Train from the checkpoint on, if there is one; no step where the plan trains nothing.

        Raises ``TrialFailed`` where it diverges, ``TrialInterrupted`` where the trial is to stop.
        """
        if not self._trainable:
            return Progress(seconds=clock.seconds)
        settings = self._settings
        torch.manual_seed(trial.seed)  # dropout
        progress = self._restored(checkpoint)
        progress.seconds = clock.seconds = progress.seconds | clock.seconds
        stability = stability_of(progress)
        first = len(progress.steps) + 1
        left = islice(batches(self._task, settings, trial.seed), first - 1, None)
        rungs = settings.measure_at if trial.rungs else ()
        measured_steps = {max(1, round(share * settings.steps)) for share in rungs}
        self._model.train()
        for step, batch in enumerate(left, first):
            if trial.should_stop():
                raise TrialInterrupted(f"stopped at step {step} of {settings.steps}")
            with clock("train"):
                loss, norm = self._step(step, batch, stability)
                progress.num_tokens += self._task.num_tokens(batch)
            progress.steps.append((loss, norm))
            if stability.diverged:
                raise TrialFailed(
                    f"diverged: the training loss is {loss} and its gradient's norm {norm} at step {step}"
                )
            if step in measured_steps and step < settings.steps:
                with clock("evaluate"):
                    validation_loss = self._validation_loss(step)
                progress.validation.append((step, validation_loss))
                trial.report(step, validation_loss)
            if checkpoint and settings.checkpoint_every and step % settings.checkpoint_every == 0:
                checkpoint.save(progress, self._model, self._optimizer, self._scheduler)
        return progress

    def _restored(self, checkpoint: Checkpoint | None) -> Progress:
        if checkpoint is None:
            return Progress()
        return checkpoint.restore(self._model, self._optimizer, self._scheduler)

    def _step(self, step: int, batch: Batch, stability: StabilityTracker) -> tuple[float, float]:
        """One step of the optimizer, left out where it is not finite; its loss and gradient norm."""
        batch = {name: tensor.to(self._device) for name, tensor in batch.items()}
        with autocast(self._device), forward_pass(self._model, self._training):
            loss = self._model(**batch).loss
        loss.backward()
        loss = loss.detach()  # what its graph still holds is let go
        norm = torch.nn.utils.clip_grad_norm_(self._trainable, self._settings.max_grad_norm)
        loss_value, norm_value = loss.item(), norm.item()
        is_finite = stability.saw(loss_value, norm_value)
        if is_finite:
            self._optimizer.step()
        self._method.after_step(self._model, step, is_finite)
        self._scheduler.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss_value, norm_value

    def _validation_loss(self, step: int) -> float:
        settings = self._settings
        with autocast(self._device):
            loss = self._task.loss(
                self._model, "validation", settings.validation_examples, settings.batch_size
            )
        return finite("validation", loss, step)


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
