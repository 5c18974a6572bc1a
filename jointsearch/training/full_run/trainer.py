"""Trains a full run with transformers' ``Trainer``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from jointsearch.config.study import StudyConfig
from jointsearch.config.task import TASKS
from jointsearch.config.training import FullRunSettings, TrainingSettings
from jointsearch.errors import RunInterrupted
from jointsearch.measurement import Stability
from jointsearch.training.full_run.callbacks import ClippedSteps, Listener, Report, StopWhenAsked
from jointsearch.training.methods.base import TrainingMethod
from jointsearch.training.model.setup import build_optimizer, forward_pass
from jointsearch.training.tasks import Batch, Task
from jointsearch.training.tasks.base import num_targets


@dataclass(frozen=True)
class Steps:
    """How many optimizer steps a full run makes."""

    total: int
    per_epoch: int

    @classmethod
    def of(cls, settings: FullRunSettings, num_examples: int, num_processes: int) -> Steps:
        per_step = settings.batch_size * settings.gradient_accumulation_steps * num_processes
        per_epoch = -(-num_examples // per_step)
        return cls(settings.max_steps or max(1, round(settings.epochs * per_epoch)), per_epoch)


@dataclass(frozen=True)
class FullTraining:
    """What a full run trains, on what, and where."""

    model: Any
    """With its adapters."""
    method: TrainingMethod
    task: Task
    study: StudyConfig
    steps: Steps
    device: torch.device
    num_processes: int
    checkpoints: Path
    """The folder of the Trainer's checkpoints."""


@dataclass(frozen=True)
class Trained:
    """What is reported of the steps of a full run."""

    steps: int = 0
    train_seconds: float = 0.0
    seconds_per_epoch: float = 0.0
    tokens_per_second: float = 0.0
    stability: Stability = field(default_factory=Stability)


def train(
    training: FullTraining,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train in place; no step is made if the plan trains nothing.

    Raises ``RunInterrupted``, with a checkpoint, where ``should_stop`` says so.
    """
    if not any(parameter.requires_grad for parameter in training.model.parameters()):
        return Trained()
    steps, num_processes = training.steps, training.num_processes
    clipped = ClippedSteps(training.method, training.study.full_run.max_grad_norm)
    trainer = _trainer(training, clipped)
    trainer.add_callback(StopWhenAsked(should_stop))
    if listener is not None:
        trainer.add_callback(Report(listener))
    checkpoint = None
    if resume and training.method.restorable:
        checkpoint = last_whole_checkpoint(training.checkpoints)
    first_step = 0 if checkpoint is None else _step(checkpoint)
    if should_stop():
        raise RunInterrupted(f"stopped before step {first_step + 1} of {steps.total}")
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.perf_counter() - start - trainer.evaluation_seconds
    done = trainer.state.global_step
    if done < steps.total:
        raise RunInterrupted(f"stopped after step {done} of {steps.total}")
    return Trained(
        steps=done,
        train_seconds=round(seconds, 3),
        seconds_per_epoch=round(seconds / max(1, done - first_step) * steps.per_epoch, 3),
        tokens_per_second=round(trainer.num_tokens * num_processes / seconds, 1),
        stability=clipped.tracker.result,
    )


def _trainer(training: FullTraining, clipped: ClippedSteps) -> _Trainer:
    settings = training.study.full_run
    rate = float(settings.learning_rate)
    groups = training.method.parameter_groups(training.model, rate)
    optimizer = build_optimizer(groups, training.study.training, rate, settings.weight_decay)
    trainer = _Trainer(
        clipped,
        training.task,
        shift=int(TASKS[training.study.task.type].peft_type == "CAUSAL_LM"),
        settings=training.study.training,
        model=training.model,
        args=_arguments(training),
        train_dataset=_Examples(training.task, "train"),
        eval_dataset=_Examples(training.task, "validation"),
        data_collator=partial(_collate, training.task),
        optimizers=(optimizer, None),
        callbacks=[clipped],
    )
    trainer.pop_callback(PrinterCallback)  # it prints to standard output, which is for results
    return trainer


def _arguments(training: FullTraining) -> TrainingArguments:
    settings, device, num_steps = training.study.full_run, training.device, training.steps.total
    interval = max(1, num_steps // settings.evaluations)
    arguments = TrainingArguments(
        output_dir=str(training.checkpoints),
        max_steps=num_steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=float(settings.learning_rate),
        warmup_steps=round(settings.warmup_ratio * num_steps),
        lr_scheduler_type=settings.lr_scheduler,
        weight_decay=settings.weight_decay,
        max_grad_norm=0.0,  # ClippedSteps clips
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
    return arguments


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end; the Trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class _Trainer(Trainer):
    """Transformers' own, which also tells the losses, counts tokens and times its evaluations.

    A step's loss is the mean over all targets of its batches, whatever their number and sizes. Transformers
    leaves that to the models, and many of them take no notice.
    """

    def __init__(
        self, clipped: ClippedSteps, task: Task, shift: int, settings: TrainingSettings, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True
        self._clipped = clipped
        self._task = task
        self._shift = shift
        self._settings = settings
        self.num_tokens = 0
        self.evaluation_seconds = 0.0

    def training_step(self, model: Any, inputs: Batch, *arguments: Any, **keywords: Any) -> torch.Tensor:
        self.num_tokens += self._task.num_tokens(inputs)
        loss = super().training_step(model, inputs, *arguments, **keywords)
        self._clipped.losses.append(loss.item())
        return loss

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """The batches of a step, and how many targets they have in the mean over the processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        total = torch.tensor(sum(num_targets(batch, self._shift) for batch in batches), dtype=torch.float32)
        return batches, self.accelerator.reduce(total.to(device), reduction="mean")

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """The batch's part of its step's loss; the whole loss in evaluations."""
        with forward_pass(model, self._settings):
            outputs = model(**inputs)
        loss = outputs["loss"]
        if num_items_in_batch is not None:
            targets = num_targets(inputs, self._shift)
            # a batch without targets has a loss that is no number
            loss = (
                loss * (targets / num_items_in_batch)
                if targets
                else torch.zeros_like(loss, requires_grad=True)
            )
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        start = time.perf_counter()
        try:
            return super().evaluate(*arguments, **keywords)
        finally:
            self.evaluation_seconds += time.perf_counter() - start


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
