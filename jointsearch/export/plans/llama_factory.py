"""``llama-factory``: a folder for ``llamafactory-cli train train.yaml``, with its ``dataset_info.json``.

The names are those of LLaMA-Factory 0.9.5 (``llamafactory.hparams``). It has one rank and one weight format
for all modules: the rank that trains as many parameters as the plan, and the format of the most weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.errors import PlanError
from jointsearch.export import ExportSource, ExportTarget, register_export_target
from jointsearch.export.plans._elsewhere import (
    OPTIMIZERS,
    check_causal,
    data_notes,
    format_notes,
    full_run,
    lora_notes,
    most_weights,
    one_rank,
    with_comments,
)
from jointsearch.files import make_folder_of, write_text
from jointsearch.plan.plan_file import PlanFile

CONFIG = "train.yaml"
DATA = "dataset_info.json"

MESSAGES = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
"""How conversations are written."""


def limits(source: ExportSource) -> list[str]:
    """What LLaMA-Factory cannot have of the plan, a phrase each."""
    plan = source.plan
    task = check_causal(plan, "LLaMA-Factory")
    notes = format_notes(plan, most_weights(plan, quantized=False), skips=False)
    ranks = sorted(set(plan.plan.ranks.values()))
    if len(ranks) > 1:
        shown = ", ".join(map(str, ranks))
        notes.append(f"one rank for all: {one_rank(plan)}, which trains as many parameters as {shown} here")
    notes += lora_notes(plan)
    alpha = plan.plan.lora.alpha_of(one_rank(plan))
    if alpha != int(alpha):
        notes.append(f"alphas that are integers: {alpha:g} is rounded")
    if task.prompt is not None:
        notes.append("no templates: the rows must have prompt and completion as they are to be read")
    if task.data.folder is not None:
        notes.append("no folders of datasets' own: write the rows of it as .jsonl")
    return notes + data_notes(plan)


def write(source: ExportSource, output: Path) -> None:
    plan = source.plan
    task = check_causal(plan, "LLaMA-Factory")
    if plan.peft.get("target_parameters"):
        raise PlanError(
            "LLaMA-Factory has no adapters of experts, but the plan has; use --to axolotl or peft"
        )
    data = _data(plan, task)
    settings = {**_model(plan), **_lora(plan), **_rows(task, data), **_training(source)}
    make_folder_of(output / CONFIG)
    write_text(output / DATA, json.dumps(data, indent=2) + "\n")
    write_text(output / CONFIG, with_comments(plan, "LLaMA-Factory", limits(source), settings))


def _model(plan: PlanFile) -> dict[str, Any]:
    model, bits = plan.study.model, most_weights(plan, quantized=False)
    return {
        "model_name_or_path": model.source,
        "model_revision": model.revision,
        "quantization_bit": None if bits == 16 else bits,
        "quantization_method": None if bits == 16 else "bnb",
        "double_quantization": plan.plan.quantization.double_quant if bits == 4 else None,
        "disable_gradient_checkpointing": not plan.study.training.gradient_checkpointing,
    }


def _lora(plan: PlanFile) -> dict[str, Any]:
    lora, rank = plan.plan.lora, one_rank(plan)
    return {
        "finetuning_type": "lora",
        "lora_rank": rank,
        "lora_alpha": round(lora.alpha_of(rank)),
        "lora_dropout": lora.dropout,
        "lora_target": ",".join(plan.plan.ranks),
        "additional_target": ",".join(plan.peft["modules_to_save"] or ()) or None,
        "use_rslora": plan.peft["use_rslora"] or None,
        "use_dora": plan.peft["use_dora"] or None,
        "pissa_init": lora.init == "pissa" or None,
        "pissa_iter": -1 if lora.init == "pissa" else None,
    }


def _data(plan: PlanFile, task: CausalLMSettings) -> dict[str, dict[str, Any]]:
    """``dataset_info.json``: where the rows are, and what their columns are for."""
    data = task.data
    splits = data.files or data.splits or {"train": "train"}
    found: dict[str, dict[str, Any]] = {}
    for split in (name for name in ("train", "validation") if name in splits):
        place: dict[str, Any]
        if data.files is not None:
            place = {"file_name": str(Path(splits[split]).resolve())}
        elif data.hub is not None:
            place = {"hf_hub_url": data.hub, "subset": data.config, "split": splits[split]}
        else:
            place = {"file_name": f"{split}.jsonl"}
        found[split] = {
            name: value for name, value in {**place, **_columns(task)}.items() if value is not None
        }
    return found


def _columns(task: CausalLMSettings) -> dict[str, Any]:
    if task.messages_column is not None:
        return {"formatting": "sharegpt", "columns": {"messages": task.messages_column}, "tags": MESSAGES}
    if task.prompt is not None:
        return {"columns": {"prompt": "prompt", "response": "completion"}}
    return {"columns": {"prompt": task.text_column or "text"}}


def _rows(task: CausalLMSettings, data: dict[str, Any]) -> dict[str, Any]:
    is_divided = "validation" in data
    return {
        "stage": "pt" if task.is_text else "sft",
        "do_train": True,
        "dataset_dir": ".",
        "dataset": "train",
        "eval_dataset": "validation" if is_divided else None,
        "val_size": None if is_divided else task.data.validation_share,
        "template": "empty" if task.prompt is not None else None,
        "cutoff_len": task.sequence_length,
        "mask_history": task.assistant_turns == "last" or None,
    }


def _training(source: ExportSource) -> dict[str, Any]:
    settings, rate = full_run(source)
    plan = source.plan
    return {
        "output_dir": plan.study.name,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "learning_rate": rate,
        "lr_scheduler_type": settings.lr_scheduler,
        "warmup_ratio": None if settings.max_steps else settings.warmup_ratio,
        "warmup_steps": round(settings.warmup_ratio * settings.max_steps) if settings.max_steps else None,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": OPTIMIZERS[plan.study.training.optimizer],
        "bf16": plan.layout.dtype == "bfloat16",
        "fp16": plan.layout.dtype == "float16",
        "seed": settings.seed,
    }


register_export_target(
    ExportTarget(
        "llama-factory", "a folder for LLaMA-Factory, in its YAML", write, is_folder=True, limits=limits
    )
)
