"""``axolotl``: a configuration for ``axolotl train``, with the plan's ranks as ``lora_rank_pattern``.

The names are those of axolotl 0.19 (``axolotl.utils.schemas``). It loads the base in one format; modules at
16 bits stay so where the others have 4.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jointsearch.config.data import Split
from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.export import ExportSource, ExportTarget, register_export_target
from jointsearch.export.plans._elsewhere import (
    OPTIMIZERS,
    builder_of,
    check_causal,
    data_notes,
    format_notes,
    full_run,
    loaded_bits,
    lora_notes,
    most_weights,
    with_comments,
)
from jointsearch.files import write_text
from jointsearch.plan.plan_file import PlanFile


def limits(source: ExportSource) -> list[str]:
    """What axolotl cannot have of the plan, a phrase each."""
    plan = source.plan
    notes = format_notes(plan, bits := most_weights(plan, quantized=True), skips=bits == 4)
    notes += lora_notes(plan)
    alphas = (plan.peft["lora_alpha"], *plan.peft["alpha_pattern"].values())
    if odd := [alpha for alpha in alphas if alpha != int(alpha)]:
        notes.append(f"alphas that are integers: {odd[0]:g} is rounded")
    task = check_causal(plan, "axolotl")
    if task.prompt is not None:
        notes.append("no templates: the rows must have prompt and completion as they are to be read")
    if task.assistant_turns == "last":
        notes.append("no assistant_turns: last: all answers are learned")
    return notes + data_notes(plan)


def write(source: ExportSource, output: Path) -> None:
    task = check_causal(source.plan, "axolotl")
    settings = {**_base(source.plan), **_lora(source.plan), **_data(source.plan, task), **_training(source)}
    write_text(output, with_comments(source.plan, "axolotl", limits(source), settings))


def _base(plan: PlanFile) -> dict[str, Any]:
    bits = most_weights(plan, quantized=True)
    plain = [
        name
        for spec in plan.layout.modules
        if spec.kind != "embedding" and loaded_bits(plan, spec.name) == 16
        for name in (spec.name, *spec.tied)
    ]
    heads = [name for spec in plan.layout.modules if spec.kind == "embedding" for name in spec.tied]
    in_four_bits: dict[str, Any] = {
        "load_in_4bit": True,
        "bnb_config_kwargs": {
            "bnb_4bit_use_double_quant": plan.plan.quantization.double_quant,
            # a list of one's own takes the place of the default one, in which heads are
            "llm_int8_skip_modules": [re.escape(name) for name in (*plain, *heads)] or None,
        },
    }
    model = plan.study.model
    return {
        "base_model": model.source,
        "revision_of_model": model.revision,
        "adapter": "qlora" if bits == 4 else "lora",
        **(in_four_bits if bits == 4 else {"load_in_8bit": True} if bits == 8 else {}),
        "bf16": plan.layout.dtype == "bfloat16",
        "fp16": plan.layout.dtype == "float16",
    }


def _lora(plan: PlanFile) -> dict[str, Any]:
    peft = plan.peft
    return {
        "lora_r": peft["r"],
        "lora_alpha": round(peft["lora_alpha"]),
        "lora_dropout": peft["lora_dropout"],
        "lora_target_modules": peft["target_modules"] or None,
        "lora_target_parameters": peft.get("target_parameters"),
        "lora_rank_pattern": peft["rank_pattern"] or None,
        "lora_alpha_pattern": {name: round(alpha) for name, alpha in peft["alpha_pattern"].items()} or None,
        "lora_fan_in_fan_out": peft["fan_in_fan_out"] or None,
        "lora_modules_to_save": peft["modules_to_save"],
        "peft_use_rslora": peft["use_rslora"] or None,
        "peft_use_dora": peft["use_dora"] or None,
        "peft_init_lora_weights": "pissa" if plan.plan.lora.init == "pissa" else None,
    }


def _data(plan: PlanFile, task: CausalLMSettings) -> dict[str, Any]:
    data = task.data
    splits = data.files or data.splits or {"train": "train"}
    is_divided = "validation" in splits

    def rows(split: Split) -> list[dict[str, Any]]:
        place: dict[str, Any]
        if data.files is not None:
            place = {"path": data.files[split], "ds_type": builder_of(data.files[split]), "split": "train"}
        else:
            place = {"path": data.hub or data.folder or "...", "split": splits[split]}
            place |= {"name": data.config, "revision": data.revision}
        return [{name: value for name, value in {**place, **_kind(task)}.items() if value is not None}]

    return {
        "datasets": rows("train"),
        "test_datasets": rows("validation") if is_divided else None,
        "val_set_size": None if is_divided else data.validation_share,
        "sequence_len": task.sequence_length,
        "sample_packing": task.is_text,
        "chat_template_jinja": task.chat_template,
    }


def _kind(task: CausalLMSettings) -> dict[str, Any]:
    """What axolotl makes of a row."""
    if task.messages_column is not None:
        return {"type": "chat_template", "field_messages": task.messages_column}
    if task.prompt is not None:
        as_it_is = {"format": "{instruction}", "no_input_format": "{instruction}"}
        return {"type": {"field_instruction": "prompt", "field_output": "completion", **as_it_is}}
    return {"type": "completion", "field": task.text_column or "text"}


def _training(source: ExportSource) -> dict[str, Any]:
    settings, rate = full_run(source)
    training = source.plan.study.training
    return {
        "output_dir": f"./{source.plan.study.name}",
        "micro_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "num_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "learning_rate": rate,
        "lr_scheduler": settings.lr_scheduler,
        "warmup_ratio": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optimizer": OPTIMIZERS[training.optimizer],
        "gradient_checkpointing": training.gradient_checkpointing,
        "seed": settings.seed,
    }


register_export_target(
    ExportTarget("axolotl", "a configuration for axolotl, in its YAML", write, limits=limits)
)
