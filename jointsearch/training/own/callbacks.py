"""What happens around the steps of a trial that a person's own Trainer trains."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from transformers import TrainerCallback

from jointsearch.errors import JointSearchError
from jointsearch.runner import Trial
from jointsearch.training.methods.base import TrainingMethod

EVAL = "eval_"
"""What Trainers put before the names of what they measure."""


class MethodSteps(TrainerCallback):
    """Tells the plan's training method of every step, for those whose ranks move while they train."""

    def __init__(self, method: TrainingMethod) -> None:
        self._method = method

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self._method.after_step(model, state.global_step + 1, True)


class Diverged(TrainerCallback):
    """Ends a run whose loss is no number."""

    def __init__(self, error: type[JointSearchError]) -> None:
        self._error = error

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise self._error(f"diverged: the training loss is {loss} at step {state.global_step}")


class Rungs(TrainerCallback):
    """Stops where the trial is to stop, and tells it the validation loss along the run."""

    def __init__(self, trial: Trial, steps: Collection[int]) -> None:
        """``steps``: after which the loss is measured."""
        self._trial = trial
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._trial.should_stop():
            control.should_training_stop = True
        elif state.global_step in self._steps:
            control.should_evaluate = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        loss = (metrics or {}).get(f"{EVAL}loss")
        if loss is not None and state.global_step < state.max_steps:
            self._trial.report(state.global_step, float(loss))
