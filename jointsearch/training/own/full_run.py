"""A full run by a person's own Trainer: the folder is that of ``training.full_run``."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments, set_seed

from jointsearch.config.study import StudyConfig
from jointsearch.errors import JointSearchError, RunInterrupted
from jointsearch.measurement import FullRunResult
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.quantization.in_place import quantize_in_place
from jointsearch.quantization.plugin import JointSearchConfig
from jointsearch.training.device import failures_named, measure_peak_memory
from jointsearch.training.full_run.callbacks import Listener, Report
from jointsearch.training.full_run.evaluation import check_saved, load_run
from jointsearch.training.full_run.folder import CHECKPOINTS, check_output
from jointsearch.training.full_run.run import check_model, result_of, save_adapter, save_base, save_metrics
from jointsearch.training.full_run.trainer import Trained, last_whole_checkpoint
from jointsearch.training.methods.base import Adaptation, method_of
from jointsearch.training.model.adapters import needs_original
from jointsearch.training.model.setup import prepare_for_training
from jointsearch.training.own.callbacks import EVAL, Diverged
from jointsearch.training.own.measured import measured, trains
from jointsearch.training.tasks import Evaluation


class OwnTrainer(Protocol):
    """A person's model, data and Trainer, as ``runner.TrainerRunner`` has them."""

    tokenizer: Any
    train_dataset: Any

    @property
    def arguments(self) -> TrainingArguments: ...

    @property
    def device(self) -> torch.device: ...

    def layout(self, config: StudyConfig) -> ModelLayout: ...

    def copied_model(self, layout: ModelLayout) -> PreTrainedModel: ...

    def trainer(
        self, model: Any, plan: Plan, args: TrainingArguments, callbacks: Sequence[TrainerCallback]
    ) -> Any: ...


@failures_named()
def train_in_full(
    runner: OwnTrainer, plan: PlanFile, output: Path, *, resume: bool, listener: Listener
) -> FullRunResult:
    """Train ``plan`` with the runner's arguments; a checkpoint is kept wherever they say so."""
    check_output(plan, output, resume)
    layout = runner.layout(plan.study)
    check_model(plan, layout)
    args = copy.deepcopy(runner.arguments)
    args.output_dir = str(output / CHECKPOINTS)
    args.learning_rate = plan.plan.learning_rate or args.learning_rate
    base = quantize_in_place(runner.copied_model(layout), JointSearchConfig.from_plan(plan))
    method = method_of(plan.plan.lora)
    original = runner.copied_model(layout) if needs_original(plan.plan) else None
    wanted = Adaptation(plan.plan, layout, plan.study.task.type, _num_steps(runner), args.seed)
    starts = method.starts(base, wanted, original)
    del original
    save_base(plan, base, runner.tokenizer, output)
    set_seed(args.seed)
    prepare_for_training(base, plan.study.training)
    model = method.attach(base, wanted, starts)
    trainer = runner.trainer(model, plan.plan, args, [Diverged(JointSearchError), Report(listener)])
    with measure_peak_memory(runner.device) as peak:
        trained = _trained(trainer, last_whole_checkpoint(output / CHECKPOINTS) if resume else None)
        found = evaluation(trainer)
        few = _loss_of_few(trainer)
    result = result_of(plan, trained, found, peak.num_bytes, [], runner.device)
    save_adapter(model, output)
    check_saved(plan, output, few, lambda loaded: _loss_of_few(runner.trainer(loaded, plan.plan, args, [])))
    save_metrics(result, output)
    return result


def _loss_of_few(trainer: Any) -> float:
    """The loss of the first batch that the Trainer measures on."""
    batch = next(iter(trainer.get_eval_dataloader()))
    return float(trainer.prediction_step(trainer.model.eval(), batch, prediction_loss_only=True)[0])


def evaluate_run(runner: OwnTrainer, folder: Path) -> FullRunResult:
    """What a finished run reaches on the runner's ``eval_dataset``."""
    plan, model = load_run(folder)
    args = copy.deepcopy(runner.arguments)
    args.output_dir = str(folder / CHECKPOINTS)
    with measure_peak_memory(runner.device) as peak:
        found = evaluation(runner.trainer(model, plan.plan, args, []))
    return result_of(plan, Trained(), found, peak.num_bytes, [], runner.device)


def evaluation(trainer: Any) -> Evaluation:
    """What the Trainer measures on its ``eval_dataset``."""
    found = trainer.evaluate()
    return Evaluation(measured(found), (), float(found.get(f"{EVAL}samples_per_second", 0.0)))


def _trained(trainer: Any, checkpoint: Path | None) -> Trained:
    if not trains(trainer.model):
        return Trained()
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.perf_counter() - start
    if trainer.state.global_step < trainer.state.max_steps:
        raise RunInterrupted(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}")
    epochs = trainer.state.epoch or 0.0
    return Trained(
        steps=trainer.state.global_step,
        train_seconds=round(seconds, 3),
        seconds_per_epoch=round(seconds / epochs, 3) if epochs else 0.0,
    )


def _num_steps(runner: OwnTrainer) -> int:
    """Of the whole run, for methods that have a schedule."""
    args = runner.arguments
    if args.max_steps > 0:
        return int(args.max_steps)
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return max(1, math.ceil(args.num_train_epochs * math.ceil(len(runner.train_dataset) / per_step)))
