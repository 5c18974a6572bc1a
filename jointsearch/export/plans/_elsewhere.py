"""What configurations of other trainers have in common: one weight format, names, and what they cannot have.

They load the base by bitsandbytes in 4 or 8 bits, or as it is; what a plan says beyond that becomes a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import yaml

from jointsearch.config.data import file_kind
from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.config.training import FullRunSettings
from jointsearch.errors import PlanError, one_line, some
from jointsearch.export import ExportSource
from jointsearch.plan.formats import FORMATS, by_precision
from jointsearch.plan.methods import lora_parameters
from jointsearch.plan.plan_file import PlanFile

OPTIMIZERS = {
    "adamw": "adamw_torch",
    "paged_adamw": "paged_adamw_32bit",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}
"""transformers' names (``training_args.OptimizerNames``)."""

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
"""What ``datasets.load_dataset`` reads a file by; plain text by ``text``."""

WITHOUT_NOTE = ("hub", "config", "revision", "files", "folder", "splits", "validation_share", "split_seed")
"""Settings of data that are written, or that only rows which are set aside depend on."""


def check_adapter(plan: PlanFile, trainer: str) -> None:
    """Raise ``PlanError`` where there is nothing to train."""
    if not any(plan.peft.get(name) for name in ("target_modules", "target_parameters")):
        raise PlanError(f"a plan must have an adapter to be exported to {trainer}, but its ranks are all 0")


def check_causal(plan: PlanFile, trainer: str) -> CausalLMSettings:
    """The task of language modelling; raises ``PlanError`` where it is another, or nothing is trained."""
    check_adapter(plan, trainer)
    task = plan.study.task
    if not isinstance(task, CausalLMSettings):
        raise PlanError(
            f"{trainer} trains causal language models, but the study's task is {task.type}; use --to peft"
        )
    return task


def full_run(source: ExportSource) -> tuple[FullRunSettings, float]:
    """How the plan is trained in full, and its learning rate: where it was swept the one that was found."""
    settings = source.plan.study.at().full_run
    return settings, float(settings.learning_rate)


def loaded_bits(plan: PlanFile, name: str) -> int:
    """The bits in which bitsandbytes would load a module of the plan: 4, 8, or 16 for as it is."""
    bits = FORMATS[plan.plan.modules[name].format].bits
    return 4 if bits <= 4 else 8 if bits <= 8 else 16


def most_weights(plan: PlanFile, *, quantized: bool) -> int:
    """The bits of the most weights of linear modules; among those that are ``quantized`` where some are."""
    weights: Counter[int] = Counter({16: 0})
    for spec in plan.layout.modules:
        if spec.kind in ("linear", "conv1d") and spec.quantizable:
            weights[loaded_bits(plan, spec.name)] += spec.num_weights
    if quantized and len(weights) > 1:
        del weights[16]
    return max(weights, key=lambda bits: weights[bits])


def one_rank(plan: PlanFile) -> int:
    """The rank that trains as many parameters in the same modules."""
    shapes = {name: plan.layout[name].shape for name in plan.plan.ranks}
    trained = sum(lora_parameters(shapes[name], rank) for name, rank in plan.plan.ranks.items())
    return max(1, round(trained / sum(lora_parameters(shape, 1) for shape in shapes.values())))


def format_notes(plan: PlanFile, bits: int, *, skips: bool) -> list[str]:
    """What a base in ``bits`` bits changes of the plan; ``skips``: modules can be left at 16 bits."""
    others = [
        spec.name
        for spec in plan.layout.modules
        if spec.kind != "embedding"
        and loaded_bits(plan, spec.name) != bits
        and not (skips and loaded_bits(plan, spec.name) == 16)
    ]
    formats = Counter(choice.format for choice in plan.plan.modules.values())
    shown = ", ".join(f"{formats[name]} in {name}" for name in by_precision(formats))
    notes = []
    if others:
        notes.append(
            f"one weight format for all: {bits} bits here, but the plan has {shown}; it differs in "
            f"{len(others)} modules"
        )
    odd = sorted({name for name in formats if name not in ("nf4", "int8", "16bit")})
    if odd:
        notes.append(f"no format {', '.join(odd)}: bitsandbytes' own stands in its place")
    embeddings = [name for name in plan.plan.formats if plan.layout[name].kind == "embedding"]
    if embeddings:
        notes.append(f"no quantized embeddings: {some(embeddings, 2)} stays in 16 bits")
    threshold = plan.plan.quantization.int8_threshold
    if bits == 8 and threshold != 6.0:
        notes.append(f"no int8_threshold: it is 6 and not {threshold:g}")
    return notes


def lora_notes(plan: PlanFile) -> list[str]:
    """What is lost of the adapters' common settings."""
    lora, notes = plan.plan.lora, []
    if lora.variant not in ("lora", "rslora", "dora"):
        notes.append(f"no {lora.variant}: its last ranks are trained by plain LoRA")
    if lora.init == "loftq":
        notes.append("no start at what quantization took away (lora.init: loftq): adapters start at nothing")
    return notes


def data_notes(plan: PlanFile) -> list[str]:
    """Settings of the study's data that are left out."""
    data = plan.study.task.data
    given = data.model_dump(exclude_defaults=True, exclude=set(WITHOUT_NOTE))
    names = [f"data.{name}" for name in given if name not in ("package", "max_bytes")]
    notes = [f"no {some(names)}, which the study's data has"] if names else []
    if data.package is not None:
        notes.append(f"no data of the installed package {data.package}: name a data set of your own")
    return notes


def builder_of(path: str) -> str:
    """The name by which ``datasets.load_dataset`` reads a file."""
    return BUILDERS.get(file_kind(path), "text")


def title(plan: PlanFile) -> str:
    """Which plan it is, in a line."""
    origin = plan.origin
    return f"trial {origin.trial} of the study '{origin.study}'" if origin else f"plan {plan.digest}"


def with_comments(plan: PlanFile, trainer: str, notes: Iterable[str], settings: dict[str, Any]) -> str:
    """YAML without what is None, below a comment that says what it is and what it lacks."""
    lines = [
        f"# {trainer}: {title(plan)}, exported by jointsearch.",
        *(f"# It has {one_line(note)}." for note in notes),
    ]
    kept = {name: value for name, value in settings.items() if value is not None}
    return "\n".join(lines) + "\n" + yaml.safe_dump(kept, sort_keys=False, width=10**6)
