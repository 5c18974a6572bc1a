"""The full run: trains an exported plan with transformers' ``Trainer`` and saves all that it needs.

    OUTPUT/plan.json         what was trained
    OUTPUT/model/            the quantized base model and the tokenizer
    OUTPUT/adapter/          the LoRA adapter in PEFT's format (none if the plan trains nothing)
    OUTPUT/checkpoints/      the Trainer's, to resume from
    OUTPUT/metrics.json      written last: a run without it is not finished

``model`` and ``adapter`` appear whole or not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from jointsearch.errors import JointSearchError, PlanError
from jointsearch.files import write_text
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
from jointsearch.training.device_check import check_dora
from jointsearch.training.full_run.folder import (
    ADAPTER,
    METRICS_FILE,
    MODEL,
    PLAN_FILE,
    check_output,
    make_folder,
    whole_folder,
)
from jointsearch.training.full_run.trainer import Listener, train
from jointsearch.training.model.adapters import adapter_starts, attach_adapters
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_base, load_quantized
from jointsearch.training.model.setup import autocast, prepare_for_training
from jointsearch.training.tasks import build_task


@failures_named()
def full_run(
    plan: PlanFile,
    output: Path,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    tell: Callable[[str], None] = lambda note: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train ``plan`` into the folder ``output`` and return its metrics; notes on the data go to ``tell``.

    ``should_stop`` is asked after every step: the run then saves a checkpoint and raises
    ``RunInterrupted``. Raises ``OutputError`` if the folder holds something (and is not an unfinished
    run of this very plan with ``resume``), ``PlanError`` if the plan does not fit its model.
    """
    study = plan.study
    device = resolve_device(study.device)
    processes = PartialState(cpu=device.type == "cpu")  # one per GPU, if started by torchrun or accelerate
    if processes.num_processes > 1 and device.type == "cuda":
        device = torch.device("cuda", processes.local_process_index)
    if processes.is_main_process:
        check_output(plan, output, resume)
    check_model(plan, read_layout(study.model, study.task.type, study.task.head))
    if study.lora.variant == "dora":
        check_dora(device, [(plan.layout[name], plan.plan.modules[name].format) for name in plan.plan.ranks])

    arguments = study.model, study.task.type
    model = load_quantized(*arguments, JointSearchConfig.from_plan(plan), device, study.task.head)
    task = build_task(study, model.config)
    for note in task.notes:
        tell(note)
    original = None
    if study.lora.init == "loftq":
        original = load_base(*arguments, plan.layout.dtype, torch.device("cpu"), study.task.head)
    starts = adapter_starts(model, plan.plan, plan.layout, study.full_run.seed, original)
    del original
    if processes.is_main_process:
        make_folder(output)
        write_plan(plan, output / PLAN_FILE)
        with whole_folder(output / MODEL) as folder:
            save_model(model, folder)
            task.tokenizer.save_pretrained(folder)
    processes.wait_for_everyone()

    set_seed(study.full_run.seed)
    prepare_for_training(model, study.training)
    model = attach_adapters(model, plan.plan, plan.layout, study.task.type, starts)
    with measure_peak_memory(device) as peak:
        training = train(
            model, task, study, output, device, processes.num_processes, resume, listener, should_stop
        )
        with autocast(device):
            found = task.evaluate(model, "validation", None, study.full_run.batch_size)
    if not math.isfinite(found.metrics["loss"]):
        raise JointSearchError(
            f"the run diverged: its validation loss is {found.metrics['loss']}; lower full_run.learning_rate"
        )
    if hasattr(model, "peft_config") and processes.is_main_process:
        with whole_folder(output / ADAPTER) as folder:
            model.save_pretrained(folder)
    cost = plan.cost
    result = {
        "plan": plan.digest,
        "model_bytes": cost.model_bytes,
        "bytes_per_parameter": round(cost.bytes_per_parameter, 4),
        "trainable_parameters": cost.trainable_parameters,
        "trainable_share": round(cost.trainable_share, 6),
        "validation": found.metrics,
        **training,
        "inference_rate": round(found.inference_rate, 1),
        "peak_memory_bytes": peak.num_bytes,
        "data_notes": task.notes,
        "examples": [example.model_dump() for example in found.examples],
        "device": describe(device),
        "versions": library_versions(),
    }
    if processes.is_main_process:
        write_text(output / METRICS_FILE, json.dumps(result, indent=1) + "\n")
    return result


def check_model(plan: PlanFile, layout: ModelLayout) -> None:
    """Raise ``PlanError`` naming the modules if the plan was made for another model."""
    layout.check(plan.plan)
    different = [spec.name for spec in plan.layout.modules if layout[spec.name].shape != spec.shape]
    if different:
        name = different[0]
        raise PlanError(
            f"the plan must fit the model {plan.study.model.id}, but {name} has the shape "
            f"{layout[name].shape} instead of {plan.layout[name].shape} ({len(different)} modules differ)"
        )
