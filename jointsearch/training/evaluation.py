"""Measures a finished full run, loaded as stock transformers and PEFT load it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from jointsearch.config import ModelSettings
from jointsearch.errors import OutputError, first_line
from jointsearch.plan_file import PlanFile, read_plan, write_text
from jointsearch.training.architecture import AUTO_CLASSES
from jointsearch.training.calibration import autocast
from jointsearch.training.device import measure_peak_memory, resolve_device
from jointsearch.training.full_run import ADAPTER, METRICS_FILE, MODEL, PLAN_FILE
from jointsearch.training.tasks import build_task


def load_run(folder: Path) -> tuple[PlanFile, PreTrainedModel]:
    """A finished run's plan and its model with the adapter; raises ``OutputError`` if it is damaged."""
    if not (folder / METRICS_FILE).is_file():
        raise OutputError(
            f"a finished run has a {METRICS_FILE}, but {folder} has none; "
            f"`jointsearch train PLAN -o {folder}` makes one (--resume goes on with one)"
        )
    plan = read_plan(folder / PLAN_FILE)
    needed = [MODEL, ADAPTER] if plan.cost.trainable_parameters else [MODEL]
    for part in needed:
        if not (folder / part).is_dir():
            raise OutputError(f"the run in {folder} is damaged: the folder {part} is not there")
    device = resolve_device(plan.study.device)
    try:
        model = AUTO_CLASSES[plan.study.task.type].from_pretrained(
            (folder / MODEL).resolve(), device_map={"": device}
        )
        if ADAPTER in needed:
            model = PeftModel.from_pretrained(model, (folder / ADAPTER).resolve())
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = first_line(error)
        raise OutputError(f"the run in {folder} is damaged: {reason}") from None
    return plan, model.eval()


def evaluate_run(folder: Path, split: str = "test") -> dict[str, Any]:
    """The task's metrics of a finished run on a split, with speed and memory."""
    plan, model = load_run(folder)
    device = next(model.parameters()).device
    # The run has a tokenizer of its own; the model that it started from may be gone.
    study = plan.study.model_copy(update={"model": ModelSettings(id=str((folder / MODEL).resolve()))})
    task = build_task(study, getattr(model.config, "max_position_embeddings", None))
    num_examples = task.num_examples(split)
    num_tokens = task.num_tokens(task.batch(split, list(range(num_examples))))
    start = time.perf_counter()
    with measure_peak_memory(device) as peak, autocast(device):
        metrics = task.evaluate(model, split, None, study.full_run.batch_size)
    seconds = time.perf_counter() - start
    result = {
        "split": split,
        "examples": num_examples,
        **metrics,
        "tokens_per_second": round(num_tokens / seconds, 1),
        "peak_memory_bytes": peak.num_bytes,
        "model_bytes": plan.cost.model_bytes,
    }
    write_text(folder / f"{split}_metrics.json", json.dumps(result, indent=1) + "\n")
    return result
