"""What happens around the steps of transformers' ``Trainer``, one callback each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from jointsearch.errors import JointSearchError
from jointsearch.training.methods.base import TrainingMethod
from jointsearch.training.stability import StabilityTracker

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of steps, and what the Trainer has logged."""


class ClippedSteps(TrainerCallback):
    """Clips the gradient in the Trainer's place, which does not tell the norm before; leaves out a step that
    is not finite; ends a run that has diverged."""

    def __init__(self, method: TrainingMethod, max_norm: float) -> None:
        self.tracker = StabilityTracker()
        self.losses: list[float] = []
        """Of the batches since the last step."""
        self._method = method
        self._max_norm = max_norm
        self._is_finite = True

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self._max_norm)
        self._is_finite = self.tracker.saw(sum(self.losses), norm.item())
        if not self._is_finite:
            model.zero_grad(set_to_none=True)
        self.losses.clear()
        if self.tracker.diverged:
            raise JointSearchError(
                f"the run diverged at step {state.global_step + 1}: its gradient's norm is {norm.item()}; "
                "lower full_run.learning_rate"
            )

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self._method.after_step(model, state.global_step + 1, self._is_finite)


class StopWhenAsked(TrainerCallback):
    """Ends the training with a checkpoint where someone wants it to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._should_stop():
            control.should_save = control.should_training_stop = True


class Report(TrainerCallback):
    """Tells a listener what the Trainer logs."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items() if _is_number(value)}
        self._listener(state.global_step, state.max_steps, numbers)


def _is_number(value: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        float(value)
        return True
    return False
