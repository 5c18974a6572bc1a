"""Trains a full run with transformers' ``Trainer``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from jointsearch.config.study import StudyConfig
from jointsearch.errors import JointSearchError, RunInterrupted
from jointsearch.measurement import Stability
from jointsearch.training.full_run.folder import CHECKPOINTS
from jointsearch.training.model.setup import build_optimizer
from jointsearch.training.stability import StabilityTracker
from jointsearch.training.tasks import Batch, Task

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of steps, and what the Trainer has logged."""


def train(
    model: Any,
    task: Task,
    study: StudyConfig,
    output: Path,
    device: torch.device,
    num_processes: int,
    resume: bool,
    listener: Listener | None,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train in place and return what is reported of it; no step is made if the plan trains nothing."""
    settings = study.full_run
    if not any(parameter.requires_grad for parameter in model.parameters()):
        nothing = {"steps": 0, "train_seconds": 0.0, "seconds_per_epoch": 0.0, "tokens_per_second": 0.0}
        return {**nothing, "stability": Stability().model_dump()}
    per_step = settings.batch_size * settings.gradient_accumulation_steps * num_processes
    steps_per_epoch = -(-task.num_examples("train") // per_step)
    num_steps = settings.max_steps or max(1, round(settings.epochs * steps_per_epoch))
    interval = max(1, num_steps // settings.evaluations)
    arguments = TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        max_steps=num_steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup_ratio * num_steps),
        lr_scheduler_type=settings.lr_scheduler,
        weight_decay=settings.weight_decay,
        max_grad_norm=0.0,  # _Stability clips, and sees the norm before
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,
        logging_steps=max(1, num_steps // 20),
        prediction_loss_only=True,
        seed=settings.seed,
        bf16=device.type == "cuda",
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        report_to="none",
        disable_tqdm=True,
    )
    # One process drives one GPU: a quantized model cannot be replicated over all that it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    stability = _Stability(settings.max_grad_norm)
    trainer = _Trainer(
        stability,
        task.num_tokens,
        model=model,
        args=arguments,
        train_dataset=_Examples(task, "train"),
        eval_dataset=_Examples(task, "validation"),
        data_collator=partial(_collate, task),
        optimizers=(_optimizer(model, study), None),
        callbacks=[stability, _Stop(should_stop), *([_Report(listener)] if listener else [])],
    )
    trainer.pop_callback(_printer())
    checkpoint = None
    if resume:
        checkpoint = _last_whole_checkpoint(output / CHECKPOINTS)
    first_step = 0 if checkpoint is None else _step(checkpoint)
    if should_stop():
        raise RunInterrupted(f"stopped before step {first_step + 1} of {num_steps}")
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.perf_counter() - start - trainer.evaluation_seconds
    steps = trainer.state.global_step
    if steps < num_steps:
        raise RunInterrupted(f"stopped after step {steps} of {num_steps}")
    return {
        "steps": steps,
        "train_seconds": round(seconds, 3),
        "seconds_per_epoch": round(seconds / max(1, steps - first_step) * steps_per_epoch, 3),
        "tokens_per_second": round(trainer.num_tokens * num_processes / seconds, 1),
        "stability": stability.tracker.result.model_dump(),
    }


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end; the Trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class _Trainer(Trainer):
    """Transformers' own, which also tells the losses, counts tokens and times its evaluations."""

    def __init__(self, stability: _Stability, count: Callable[[Batch], int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._stability = stability
        self._count = count
        self.num_tokens = 0
        self.evaluation_seconds = 0.0

    def training_step(self, model: Any, inputs: Batch, *arguments: Any, **keywords: Any) -> torch.Tensor:
        self.num_tokens += self._count(inputs)
        loss = super().training_step(model, inputs, *arguments, **keywords)
        self._stability.losses.append(loss.item())
        return loss

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        start = time.perf_counter()
        try:
            return super().evaluate(*arguments, **keywords)
        finally:
            self.evaluation_seconds += time.perf_counter() - start


class _Stability(TrainerCallback):
    """Clips the gradient and leaves out a step that is not finite."""

    def __init__(self, max_norm: float) -> None:
        self.tracker = StabilityTracker()
        self.losses: list[float] = []
        """Of the batches since the last step."""
        self._max_norm = max_norm

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self._max_norm)
        if not self.tracker.saw(sum(self.losses), norm.item()):
            model.zero_grad(set_to_none=True)
        self.losses.clear()
        if self.tracker.diverged:
            raise JointSearchError(
                f"the run diverged at step {state.global_step + 1}: its gradient's norm is {norm.item()}; "
                "lower full_run.learning_rate"
            )


def _optimizer(model: Any, study: StudyConfig) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return build_optimizer(
        trainable, study.training, study.full_run.learning_rate, study.full_run.weight_decay
    )


class _Examples(Dataset[tuple[str, int]]):
    """A split of a task: where its examples are, which ``_collate`` makes a batch of."""

    def __init__(self, task: Task, split: str) -> None:
        self._task = task
        self._split = split

    def __len__(self) -> int:
        return self._task.num_examples(self._split)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self._split, index


def _collate(task: Task, examples: list[tuple[str, int]]) -> Batch:
    return task.batch(examples[0][0], [index for _, index in examples])


class _Stop(TrainerCallback):
    """Ends the training with a checkpoint where someone wants it to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._should_stop():
            control.should_save = control.should_training_stop = True


class _Report(TrainerCallback):
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


def _printer() -> type[TrainerCallback]:
    """The Trainer prints its logs to standard output, which is for results."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
