"""AdaLoRA: an adapter P Λ Q per module whose singular values Λ are pruned while it trains (PEFT's own).

Zhang et al., arXiv 2303.10512. The plan's mean rank is the target; the initial one is half as high again
(b(0) = 1.5 b(T), section 4.1). Ranks fall by a cubic schedule (equation 12) after the first 15 % of the
steps, and rest for the last 30 %. PEFT adds the orthogonality of P and Q (equation 4) to the *training*
loss, so that it is not comparable with LoRA's; tasks measure the validation loss from logits, without it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from peft.tuners.adalora.layer import AdaLoraLayer
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import Plan
from jointsearch.training.model.adapters import ADAPTER, generator_of

INITIAL_OVER_TARGET = 1.5
INITIAL_SHARE = 0.15
FINAL_SHARE = 0.3
MIN_STEPS = 2


def adalora_config(plan: Plan, layout: ModelLayout, task_type: str, num_steps: int) -> AdaLoraConfig:
    """PEFT's arguments; raises ``PlanError`` where the ranks differ by module or the steps are too few."""
    targets = set(plan.ranks.values())
    if len(targets) != 1:
        raise PlanError(
            f"AdaLoRA ends with one mean rank for all modules, but the plan has {sorted(targets)}"
        )
    if num_steps < MIN_STEPS:
        raise PlanError(f"AdaLoRA needs at least {MIN_STEPS} steps to choose ranks in, but got {num_steps}")
    target = targets.pop()
    initial = math.ceil(INITIAL_OVER_TARGET * target)
    shared = lora_config(plan, layout, task_type)
    return AdaLoraConfig(
        task_type=shared["task_type"],
        target_modules=shared["target_modules"],
        lora_dropout=shared["lora_dropout"],
        fan_in_fan_out=shared["fan_in_fan_out"],
        modules_to_save=shared["modules_to_save"],
        lora_alpha=plan.lora.alpha_over_rank * initial,  # PEFT divides by the initial rank
        init_r=initial,
        target_r=target,
        tinit=int(INITIAL_SHARE * num_steps),
        tfinal=int(FINAL_SHARE * num_steps),
        deltaT=max(1, num_steps // 100),
        total_step=num_steps,
    )


def attach_adalora(
    model: PreTrainedModel, plan: Plan, layout: ModelLayout, task_type: str, seed: int, num_steps: int
) -> PeftModel:
    """``model`` with AdaLoRA's adapters, whose start depends on the seed and each module's name alone."""
    peft_model = get_peft_model(model, adalora_config(plan, layout, task_type, num_steps))
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in peft_model.named_modules()
        if isinstance(layer, AdaLoraLayer)
    }
    if layers.keys() != plan.ranks.keys():
        wrong = sorted(layers.keys() ^ plan.ranks.keys())
        raise PlanError(f"PEFT adapted other modules than the plan says: {', '.join(wrong[:5])}")
    for name, layer in layers.items():
        generator = generator_of(seed, name)
        for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            drawn = generator.normal(0.0, 0.02, tuple(matrix.shape))  # PEFT's own deviation
            matrix.data.copy_(torch.from_numpy(drawn))
    dtype = getattr(torch, plan.lora.dtype)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return peft_model


def allocate(model: Any, step: int) -> None:
    """Prune after the optimizer's step number ``step`` (from 1), while the gradients are still there."""
    model.base_model.update_and_allocate(step)


def final_ranks(model: Any) -> dict[str, int]:
    """The rank that every adapted module has ended with, 0 included."""
    pattern: dict[str, list[bool]] = model.peft_config[ADAPTER].rank_pattern
    return {name.partition(".lora_E")[0]: sum(kept) for name, kept in pattern.items()}
