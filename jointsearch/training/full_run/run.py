"""The full run: trains an exported plan with transformers' ``Trainer`` and saves all that it needs.

    OUTPUT/plan.json         what was trained
    OUTPUT/model/            the quantized base model and the tokenizer
    OUTPUT/adapter/          the LoRA adapter in PEFT's format (none if the plan trains nothing)
    OUTPUT/checkpoints/      the Trainer's, to resume from
    OUTPUT/metrics.json      written last: a run without it is not finished

``model`` and ``adapter`` appear whole or not at all. Before a run calls itself finished, both are loaded back
and must have the loss that was trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, set_seed

from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.custom import check_runs_from_file
from jointsearch.errors import JointSearchError, PlanError, UnsupportedError
from jointsearch.files import write_text
from jointsearch.measurement import FullRunResult
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile, write_plan
from jointsearch.quantization.plugin import JointSearchConfig, save_model
from jointsearch.training.device import (
    describe,
    failures_named,
    library_versions,
    measure_peak_memory,
    resolve_device,
)
from jointsearch.training.full_run.callbacks import Listener
from jointsearch.training.full_run.evaluation import check_saved
from jointsearch.training.full_run.folder import (
    ADAPTER,
    CHECKPOINTS,
    METRICS_FILE,
    MODEL,
    PLAN_FILE,
    check_output,
    disk_failures_named,
    make_folder,
    whole_folder,
)
from jointsearch.training.full_run.trainer import FullTraining, Steps, Trained, train
from jointsearch.training.methods.base import Adaptation, method_of
from jointsearch.training.model.adapters import needs_original
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_base, load_quantized
from jointsearch.training.model.setup import autocast, check_device, prepare_for_training
from jointsearch.training.model.streamed_layers import StreamedLayers
from jointsearch.training.tasks import Evaluation, build_task

NUM_CHECKED = 8
"""Validation examples that what was saved must have the same loss on."""


@failures_named()
def full_run(
    plan: PlanFile,
    output: Path,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    tell: Callable[[str], None] = lambda note: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FullRunResult:
    """Train ``plan`` into the folder ``output``; notes on the data go to ``tell``.

    ``should_stop`` is asked after every step: the run then saves a checkpoint and raises
    ``RunInterrupted``. Raises ``OutputError`` if the folder holds something (and is not an unfinished
    run of this very plan with ``resume``) or cannot be written, ``PlanError`` if the plan does not fit its
    model.
    """
    with disk_failures_named(output):
        return _full_run(plan, output, resume, listener, tell, should_stop)


def _full_run(
    plan: PlanFile,
    output: Path,
    resume: bool,
    listener: Listener | None,
    tell: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> FullRunResult:
    study = plan.study
    check_runs_from_file(study.name, study.task)
    processes, device = _processes(study)
    if processes.is_main_process:
        check_output(plan, output, resume)
    check_model(plan, read_layout(study.model, study.task.type, study.task.head))
    method = method_of(plan.plan.lora)
    method.check(device, [(plan.layout[name], plan.plan.modules[name].format) for name in plan.plan.ranks])

    config = JointSearchConfig.from_plan(plan)
    model = load_quantized(study.model, study.task.type, config, device, study.task.head)
    task = build_task(study, model.config)
    for note in task.notes:
        tell(note)
    steps = Steps.of(study.full_run, task.num_examples("train"), processes.num_processes)
    wanted = Adaptation(plan.plan, plan.layout, study.task.type, steps.total, study.full_run.seed)
    starts = method.starts(model, wanted, _original(plan))
    if processes.is_main_process:
        save_base(plan, model, task.tokenizer, output)
    processes.wait_for_everyone()

    batch_size = study.full_run.batch_size
    set_seed(study.full_run.seed)
    prepare_for_training(model, study.training)
    adapted = method.attach(model, wanted, starts)
    if study.training.stream_layers:
        StreamedLayers(adapted, plan.layout, device).watch(adapted)
    training = FullTraining(
        model=adapted,
        method=method,
        task=task,
        study=study.at(),
        steps=steps,
        device=device,
        num_processes=processes.num_processes,
        checkpoints=output / CHECKPOINTS,
    )
    with measure_peak_memory(device) as peak:
        trained = train(training, resume=resume, listener=listener, should_stop=should_stop)
        with autocast(device):
            found = task.evaluate(training.model, "validation", None, batch_size)
            few = task.loss(training.model, "validation", NUM_CHECKED, batch_size)
    result = result_of(plan, trained, found, peak.num_bytes, task.notes, device)
    if processes.is_main_process:
        save_adapter(training.model, output)
        del training, adapted, model  # a device may not have room for two
        with autocast(device):
            check_saved(
                plan, output, few, lambda loaded: task.loss(loaded, "validation", NUM_CHECKED, batch_size)
            )
        save_metrics(result, output)
    return result


def check_model(plan: PlanFile, layout: ModelLayout) -> None:
    """Raise ``PlanError`` naming the modules if the plan was made for another model."""
    plan.plan.check(layout)
    different = [spec.name for spec in plan.layout.modules if layout[spec.name].shape != spec.shape]
    if different:
        name = different[0]
        raise PlanError(
            f"the plan must fit the model {plan.study.model.id}, but {name} has the shape "
            f"{layout[name].shape} instead of {plan.layout[name].shape} ({len(different)} modules differ)"
        )


def _processes(study: StudyConfig) -> tuple[PartialState, torch.device]:
    """The processes that train together, and this one's device: torchrun and accelerate start one per GPU."""
    device = resolve_device(study.device)
    processes = PartialState(cpu=device.type == "cpu")
    if study.training.stream_layers and processes.num_processes > 1:
        raise UnsupportedError(
            f"training.stream_layers needs a single process, but got {processes.num_processes}; leave it "
            "out, or start the run without torchrun or accelerate"
        )
    if processes.num_processes > 1 and device.type == "cuda":
        device = torch.device("cuda", processes.local_process_index)
    check_device(study.training, device)
    return processes, device


def _original(plan: PlanFile) -> PreTrainedModel | None:
    """The model before quantization, where adapters start from it."""
    if not needs_original(plan.plan):
        return None
    settings, task = plan.study.model, plan.study.task
    return load_base(settings, task.type, plan.layout.dtype, torch.device("cpu"), task.head)


def save_base(plan: PlanFile, model: PreTrainedModel, tokenizer: Any, output: Path) -> None:
    """Save what the training does not change; ``tokenizer``: None where there is none."""
    make_folder(output)
    write_plan(plan, output / PLAN_FILE)
    with whole_folder(output / MODEL) as folder:
        save_model(model, folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def save_adapter(model: Any, output: Path) -> None:
    """Save the adapter, if there is one."""
    if hasattr(model, "peft_config"):
        for config in model.peft_config.values():
            # what it was trained on, and not what that was quantized from
            config.base_model_name_or_path = str((output / MODEL).resolve())
            config.revision = None
        with whole_folder(output / ADAPTER) as folder:
            model.save_pretrained(folder)


def save_metrics(result: FullRunResult, output: Path) -> None:
    """With them a run is finished."""
    write_text(output / METRICS_FILE, json.dumps(result.model_dump(mode="json"), indent=1) + "\n")


def result_of(
    plan: PlanFile,
    trained: Trained,
    found: Evaluation,
    peak_memory_bytes: int,
    notes: list[str],
    device: torch.device,
) -> FullRunResult:
    """Raises ``JointSearchError`` where the run has diverged."""
    if not math.isfinite(found.metrics["loss"]):
        raise JointSearchError(
            f"the run diverged: its validation loss is {found.metrics['loss']}; lower full_run.learning_rate"
        )
    cost = plan.cost
    return FullRunResult(
        plan=plan.digest,
        model_bytes=cost.model_bytes,
        bytes_per_parameter=round(cost.bytes_per_parameter, 4),
        trainable_parameters=cost.trainable_parameters,
        trainable_share=round(cost.trainable_share, 6),
        validation=found.metrics,
        steps=trained.steps,
        train_seconds=trained.train_seconds,
        seconds_per_epoch=trained.seconds_per_epoch,
        tokens_per_second=trained.tokens_per_second,
        stability=trained.stability,
        inference_rate=round(found.inference_rate, 1),
        peak_memory_bytes=peak_memory_bytes,
        data_notes=tuple(notes),
        examples=found.examples,
        device=describe(device),
        versions=library_versions(),
    )
