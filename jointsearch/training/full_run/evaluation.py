"""Measures a finished full run, loaded as stock transformers and PEFT load it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from jointsearch.config.study import ModelSettings
from jointsearch.config.tasks.custom import check_runs_from_file
from jointsearch.config.trust import HOW, trusts_remote_code
from jointsearch.errors import DataError, ModelError, OutputError, first_line
from jointsearch.files import write_text
from jointsearch.plan.plan_file import PlanFile, read_plan
from jointsearch.training.device import measure_peak_memory, resolve_device
from jointsearch.training.full_run.folder import ADAPTER, METRICS_FILE, MODEL, PLAN_FILE
from jointsearch.training.model.architecture import model_class, needs_trust
from jointsearch.training.model.setup import autocast
from jointsearch.training.quiet import ranks_of_parameters
from jointsearch.training.tasks import build_task
from jointsearch.training.tasks.base import Listener, Task, nobody

LOSS_TOLERANCE = 1e-3
"""How much the loss of a saved model may differ from that in memory: GPUs add up in other orders."""


def read_run(folder: Path) -> PlanFile:
    """The plan of a finished run; raises ``OutputError`` where it is none."""
    if not (folder / METRICS_FILE).is_file():
        raise OutputError(
            f"a finished run has a {METRICS_FILE}, but {folder} has none; "
            f"`jointsearch train PLAN -o {folder}` makes one (--resume goes on with one)"
        )
    return read_plan(folder / PLAN_FILE)


def load_run(folder: Path) -> tuple[PlanFile, PreTrainedModel]:
    """A finished run's plan and its model with the adapter; raises ``OutputError`` if it is damaged."""
    plan = read_run(folder)
    return plan, load_saved(plan, folder)


def load_saved(plan: PlanFile, folder: Path, *, adapted: bool = True) -> PreTrainedModel:
    """What a run of ``plan`` has saved; raises ``OutputError`` if it is damaged.

    ``adapted``: with its adapter.
    """
    needed = [MODEL, ADAPTER] if plan.cost.trainable_parameters and adapted else [MODEL]
    for part in needed:
        if not (folder / part).is_dir():
            raise OutputError(f"the run in {folder} is damaged: the folder {part} is not there")
    device = resolve_device(plan.study.device)
    try:
        model = model_class(plan.study.task.type).from_pretrained(
            (folder / MODEL).resolve(),
            device_map={"": device},
            trust_remote_code=trusts_remote_code(),
            use_safetensors=True,
        )
        if ADAPTER in needed:
            with ranks_of_parameters():
                model = PeftModel.from_pretrained(model, (folder / ADAPTER).resolve())
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if needs_trust(error):
            raise ModelError(f"the model in {folder} comes with code that must run; {HOW}") from None
        reason = first_line(error)
        raise OutputError(f"the run in {folder} is damaged: {reason}") from None
    return model.requires_grad_(False).eval()


def check_saved(
    plan: PlanFile, folder: Path, trained: float, loss: Callable[[PreTrainedModel], float]
) -> None:
    """Raise ``OutputError`` unless what the run has saved has the same ``loss`` as what was ``trained``."""
    loaded = loss(load_saved(plan, folder))
    if not math.isclose(loaded, trained, rel_tol=LOSS_TOLERANCE, abs_tol=LOSS_TOLERANCE):
        raise OutputError(
            f"a run must be saved as it was trained, but what {folder} holds has the loss {loaded:.4f} "
            f"instead of {trained:.4f} once it is loaded; use another model, and report this one"
        )


def task_of(plan: PlanFile, folder: Path, model: PreTrainedModel) -> Task:
    """The task of a run, by the run's own tokenizer: the model that it started from may be gone."""
    saved = ModelSettings(id=str((folder / MODEL).resolve()))
    return build_task(plan.study.model_copy(update={"model": saved}), model.config)


def evaluate_run(
    folder: Path,
    split: str = "test",
    *,
    limit: int | None = None,
    listener: Listener = nobody,
    tell: Callable[[str], object] = str,
) -> dict[str, Any]:
    """The task's metrics of a finished run on a split, or on its first ``limit`` examples, with speed and
    memory.

    ``listener`` is told how far it is, ``tell`` what a person should know about the data.
    """
    plan, model = load_run(folder)
    check_runs_from_file(plan.study.name, plan.study.task)
    device = next(model.parameters()).device
    study = plan.study
    task = task_of(plan, folder, model)
    if not task.num_examples(split):
        raise DataError(
            f"the {split} split must have labels to be measured on; name another: --split validation"
        )
    task.listener = listener
    for note in task.notes:
        tell(note)
    with measure_peak_memory(device) as peak, autocast(device):
        found = task.evaluate(model, split, limit, study.full_run.batch_size)
    result = {
        "split": split,
        "num_examples": min(limit or task.num_examples(split), task.num_examples(split)),
        **found.metrics,
        "inference_rate": round(found.inference_rate, 1),
        "peak_memory_bytes": peak.num_bytes,
        "model_bytes": plan.cost.model_bytes,
        "bytes_per_parameter": round(plan.cost.bytes_per_parameter, 4),
        "examples": [example.model_dump() for example in found.examples],
    }
    if limit is None:  # what the folder tells is of the whole split
        write_text(folder / f"{split}_metrics.json", json.dumps(result, indent=1) + "\n")
    return result
