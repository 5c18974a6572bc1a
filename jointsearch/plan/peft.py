"""A plan as arguments of PEFT: what a person needs to use its ranks without jointsearch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jointsearch.config.task import TASKS
from jointsearch.plan.layout import ModelLayout

if TYPE_CHECKING:
    from jointsearch.plan.plan import Plan

_BY_CLASS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
"""PEFT's ``task_type`` by the ending of a model class."""

_VARIANTS = {"use_rslora": False, "use_dora": False}
"""Plan files say which of PEFT's variants of LoRA it is, also where it is none."""

SAVED_BY_PEFT = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Modules that PEFT adds to ``modules_to_save``, by its ``task_type``."""

NO_MODULE = "dummy-target-modules"
"""PEFT's own word for an adapter that has none but the modules to save."""


def lora_config(plan: Plan, layout: ModelLayout, task_type: str = "causal-lm") -> dict[str, Any]:
    """Arguments of ``peft.LoraConfig`` that give every module of ``plan`` its rank.

    PEFT reads the keys of ``rank_pattern`` as regular expressions, so they are escaped full names;
    a module of rank 0 is left out, because PEFT knows no such rank. Empty ``target_modules``
    and ``target_parameters`` mean that the plan has no adapter.
    """
    peft_type = _by_class(layout.architecture) if task_type == "custom" else TASKS[task_type].peft_type
    ranks = plan.ranks
    default = max(ranks.values(), default=1)
    other = {re.escape(name): rank for name, rank in ranks.items() if rank != default}
    alpha = plan.lora.alpha_of
    heads = _saved_heads(layout, peft_type)
    experts = [name for name in ranks if layout[name].kind == "experts"]
    modules = [name for name in ranks if name not in experts]
    return {
        "task_type": peft_type,
        "r": default,
        "lora_alpha": alpha(default),
        "target_modules": modules or (NO_MODULE if heads and not experts else []),
        **({"target_parameters": experts} if experts else {}),
        "rank_pattern": other,
        "alpha_pattern": {name: alpha(rank) for name, rank in other.items() if alpha(rank) != alpha(default)},
        **_VARIANTS,
        **plan.lora.method.peft_arguments,
        "lora_dropout": plan.lora.dropout,
        "bias": "none",
        "fan_in_fan_out": any(layout[name].kind == "conv1d" for name in ranks),
        "modules_to_save": heads or None,
    }


def _saved_heads(layout: ModelLayout, peft_type: str | None) -> list[str]:
    """The new heads, each as the outermost module that PEFT saves by itself: it cannot save both.

    RoBERTa's ``classifier.dense`` and ``classifier.out_proj`` are in PEFT's ``classifier``.
    """
    saved = []
    for spec in layout.modules:
        if spec.trained:
            path = spec.name.split(".")
            ends = [i for i, part in enumerate(path, 1) if part in SAVED_BY_PEFT.get(peft_type or "", ())]
            saved.append(".".join(path[: ends[0]]) if ends else spec.name)
    return list(dict.fromkeys(saved))


def _by_class(architecture: str) -> str | None:
    """PEFT's task of a model class; None, as PEFT has it, for one that it has no class for."""
    return next((name for ending, name in _BY_CLASS.items() if architecture.endswith(ending)), None)
