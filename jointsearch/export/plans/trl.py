"""``trl``: a folder with ``train.py``, which trains the plan by TRL's ``SFTTrainer``, and ``plan.json``.

Each module has its format by ``JointSearchConfig`` and its rank by ``LoraConfig``, but for heads: TRL
multiplies by the matrix of a head itself (1.16, ``add_fused_lm_head``), which packed numbers are not, and
past its adapter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.export import ExportSource, ExportTarget, register_export_target
from jointsearch.export.plans._elsewhere import (
    OPTIMIZERS,
    builder_of,
    check_causal,
    data_notes,
    full_run,
    title,
)
from jointsearch.files import make_folder_of, write_text
from jointsearch.plan.formats import UNQUANTIZED
from jointsearch.plan.layout import Part
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile, plan_text

SCRIPT = "train.py"
PLAN = "plan.json"

TEMPLATE = '''\
"""Trains {title} by TRL{notes}."""

from __future__ import annotations

import json
from pathlib import Path
{imports}
import torch
from datasets import {datasets}
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from jointsearch import JointSearchConfig{fill}

PLAN = Path(__file__).with_name({plan!r})


def rows() -> tuple[Dataset, Dataset]:
    """To train on, and to validate with."""
{rows}

def main() -> None:
    model = AutoModelForCausalLM.from_pretrained(
        {model!r},
        revision={revision!r},
        dtype={dtype!r},{quantization}
    )
    tokenizer = AutoTokenizer.from_pretrained({model!r}, revision={revision!r}){chat_template}
    train, validation = rows()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
{arguments}
            bf16=torch.cuda.is_available() and {dtype!r} == "bfloat16",
        ),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=LoraConfig(**json.loads(PLAN.read_text())["peft"]),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
'''

READING = {
    "hub": "    found = load_dataset({hub!r}, {config!r}, revision={revision!r})\n",
    "files": "    found = load_dataset({builder!r}, data_files={files!r})\n",
    "folder": "    found = load_from_disk({folder!r})\n",
    "package": (
        "    root = Path(find_spec({package!r}).origin).parent\n"
        "    texts = [path.read_text(errors='replace') for path in sorted(root.rglob('*.py'))]\n"
        "    found = {{'train': Dataset.from_dict({{'text': texts}})}}\n"
    ),
}
"""Where the rows are, by the one setting of ``data`` that is given."""


def trainable(plan: PlanFile) -> PlanFile:
    """The plan with heads, and embeddings that are tied to them, in 16 bits and without adapters."""
    plain = ModuleChoice(format=UNQUANTIZED, rank=0)
    heads = {spec.name: plain for spec in plan.layout.modules if spec.part == Part.HEAD or spec.tied}
    return PlanFile.build(
        Plan(
            modules={**plan.plan.modules, **heads},
            lora=plan.plan.lora,
            learning_rate=plan.plan.learning_rate,
            quantization=plan.plan.quantization,
        ),
        plan.layout,
        plan.study,
        plan.origin,
    )


def limits(source: ExportSource) -> list[str]:
    """What TRL cannot have of the plan, a phrase each."""
    plan = source.plan
    task = check_causal(plan, "TRL")
    notes = []
    if trainable(plan).digest != plan.digest:
        notes.append("no quantized or adapted heads: they, and what is tied to them, stay as they are")
    if plan.plan.formats and plan.plan.lora.dtype != "bfloat16":
        notes.append("adapters in bfloat16 beside a quantized base, where the study has float32")
    if plan.plan.lora.variant not in ("lora", "rslora", "dora"):
        notes.append(f"no {plan.plan.lora.variant}: its last ranks are trained by plain LoRA")
    if plan.plan.lora.init == "loftq":
        notes.append("no start at what quantization took away (lora.init: loftq): adapters start at nothing")
    if task.assistant_turns == "last":
        notes.append("no assistant_turns: last: all answers are learned")
    return notes + [note for note in data_notes(plan) if "installed package" not in note]


def write(source: ExportSource, output: Path) -> None:
    plan = trainable(source.plan)
    task = check_causal(plan, "TRL")
    notes = "; ".join(limits(source))
    base = plan.study.model
    arguments = "\n".join(
        f"            {name}={value!r}," for name, value in _arguments(source, task).items()
    )
    reading = next(name for name in READING if getattr(task.data, name) is not None)
    script = TEMPLATE.format(
        title=title(plan),
        notes=f". TRL has {notes}" if notes else "",
        imports="from importlib.util import find_spec\n" if reading == "package" else "",
        datasets="Dataset, load_from_disk" if reading == "folder" else "Dataset, load_dataset",
        fill="\nfrom jointsearch.config.template import fill" if task.prompt is not None else "",
        plan=PLAN,
        rows=_rows(task, reading),
        model=base.source,
        revision=base.revision,
        dtype=plan.layout.dtype,
        quantization=(
            "\n        quantization_config=JointSearchConfig.from_plan(PLAN)," if plan.plan.formats else ""
        ),
        chat_template=(
            f"\n    tokenizer.chat_template = {task.chat_template!r}"
            if task.chat_template is not None
            else ""
        ),
        arguments=arguments,
    )
    make_folder_of(output / SCRIPT)
    write_text(output / PLAN, plan_text(plan))
    write_text(output / SCRIPT, script)


def _rows(task: CausalLMSettings, reading: str) -> str:
    """The lines of a function that gives both splits, with the columns that ``SFTTrainer`` reads."""
    data = task.data
    first = next(iter((data.files or {}).values()), "")
    text = READING[reading].format(**data.model_dump() | {"builder": builder_of(first)})
    splits = data.splits or dict.fromkeys(("train", "validation"), "")
    train = data.splits["train"] if data.splits else "train"
    validation = splits["validation"] if data.splits and "validation" in splits else "validation"
    share, seed = data.validation_share, data.split_seed
    text += (
        f"    if {validation!r} not in found:\n"
        f"        divided = found[{train!r}].train_test_split({share!r}, seed={seed!r})\n"
        f"        found = {{{train!r}: divided['train'], {validation!r}: divided['test']}}\n"
        f"    parts = (found[{train!r}], found[{validation!r}])\n"
    )
    if task.prompt is not None:
        text += (
            f"    prompt, completion = {task.prompt!r}, {task.completion!r}\n\n"
            "    def filled(row: dict) -> dict:\n"
            "        return {'prompt': fill(prompt, row), 'completion': fill(completion, row)}\n\n"
            "    parts = tuple(part.map(filled, remove_columns=part.column_names) for part in parts)\n"
        )
    column = task.messages_column or (task.text_column or "text" if task.is_text else "")
    wanted = "messages" if task.messages_column is not None else "text"
    if column:
        text += f"    parts = tuple(part.select_columns([{column!r}]) for part in parts)\n"
        if column != wanted:
            text += f"    parts = tuple(part.rename_column({column!r}, {wanted!r}) for part in parts)\n"
    return text + "    return parts\n"


def _arguments(source: ExportSource, task: CausalLMSettings) -> dict[str, Any]:
    settings, rate = full_run(source)
    training = source.plan.study.training
    return {
        "output_dir": source.plan.study.name,
        "max_length": task.sequence_length,
        **({"packing": True, "packing_strategy": "wrapped"} if task.is_text else {}),
        **({"assistant_only_loss": True} if task.messages_column is not None else {}),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": rate,
        "lr_scheduler_type": settings.lr_scheduler,
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": OPTIMIZERS[training.optimizer],
        "gradient_checkpointing": training.gradient_checkpointing,
        "seed": settings.seed,
    }


register_export_target(
    ExportTarget("trl", "a folder with a script for TRL's SFTTrainer", write, is_folder=True, limits=limits)
)
