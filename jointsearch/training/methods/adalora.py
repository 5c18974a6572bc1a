"""AdaLoRA: an adapter P Λ Q per module whose singular values Λ are pruned while it trains (PEFT's own).

Zhang et al., arXiv 2303.10512. The plan's mean rank is the target; the initial one is half as high again
(b(0) = 1.5 b(T), section 4.1). Ranks fall by a cubic schedule (equation 12) after the first 15 % of the
steps, and rest for the last 30 %. PEFT adds the orthogonality of P and Q (equation 4) to the *training*
loss, so that it is not comparable with LoRA's; tasks measure the validation loss from logits, without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from peft.tuners.adalora.layer import AdaLoraLayer
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.plan.peft import lora_config
from jointsearch.quantization.experts import Modules
from jointsearch.training.methods.base import Adaptation, TrainingMethod, adapted_layers, cast_trained
from jointsearch.training.model.adapters import ADAPTER, Factors, Start, generator_of

INITIAL_OVER_TARGET = 1.5
INITIAL_SHARE = 0.15
FINAL_SHARE = 0.3
MIN_STEPS = 2


class AdaLoraMethod(TrainingMethod):
    restorable = False  # the schedule and the importance of every singular value are PEFT's, and not saved

    def starts(
        self,
        model: PreTrainedModel,
        wanted: Adaptation,
        original: Modules | None = None,
        factors: Factors | None = None,
    ) -> dict[str, Start]:
        """Q and P, which depend on the seed and each module's name alone."""
        starts = {}
        for name, rank in wanted.plan.ranks.items():
            out_features, in_features = wanted.layout[name].shape
            initial = initial_rank(rank)
            generator = generator_of(wanted.seed, name)
            q, p = (
                torch.from_numpy(generator.normal(0.0, 0.02, shape))  # PEFT's own deviation
                for shape in ((initial, in_features), (out_features, initial))
            )
            starts[name] = q, p
        return starts

    def attach(self, model: PreTrainedModel, wanted: Adaptation, starts: Mapping[str, Start]) -> PeftModel:
        plan = wanted.plan
        peft_model = get_peft_model(model, adalora_config(wanted))
        layers = adapted_layers(peft_model, AdaLoraLayer)
        if layers.keys() != plan.ranks.keys():
            wrong = sorted(layers.keys() ^ plan.ranks.keys())
            raise PlanError(f"PEFT adapted other modules than the plan says: {', '.join(wrong[:5])}")
        for name, layer in layers.items():
            q, p = starts[name]
            layer.lora_A[ADAPTER].data.copy_(q)
            layer.lora_B[ADAPTER].data.copy_(p)
        cast_trained(peft_model, getattr(torch, plan.lora.dtype))
        return peft_model

    def after_step(self, model: Any, step: int, finite: bool) -> None:
        """Prune; a step that was left out counts nothing as important."""
        if not finite:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        model.base_model.update_and_allocate(step)

    def final_ranks(self, model: Any) -> dict[str, int]:
        pattern: dict[str, list[bool]] = model.peft_config[ADAPTER].rank_pattern
        return {name.partition(".lora_E")[0]: sum(kept) for name, kept in pattern.items()}


def initial_rank(target: int) -> int:
    return math.ceil(INITIAL_OVER_TARGET * target)


def adalora_config(wanted: Adaptation) -> AdaLoraConfig:
    """PEFT's arguments; raises ``PlanError`` where the ranks differ by module or the steps are too few."""
    plan, num_steps = wanted.plan, wanted.num_steps
    targets = set(plan.ranks.values())
    if len(targets) != 1:
        raise PlanError(
            f"AdaLoRA ends with one mean rank for all modules, but the plan has {sorted(targets)}"
        )
    if num_steps < MIN_STEPS:
        raise PlanError(f"AdaLoRA needs at least {MIN_STEPS} steps to choose ranks in, but got {num_steps}")
    target = targets.pop()
    initial = initial_rank(target)
    shared = lora_config(plan, wanted.layout, wanted.task_type)
    return AdaLoraConfig(
        task_type=shared["task_type"],
        target_modules=shared["target_modules"],
        lora_dropout=shared["lora_dropout"],
        fan_in_fan_out=shared["fan_in_fan_out"],
        modules_to_save=shared["modules_to_save"],
        lora_alpha=plan.lora.alpha_of(initial),  # PEFT divides by the initial rank
        init_r=initial,
        target_r=target,
        tinit=int(INITIAL_SHARE * num_steps),
        tfinal=int(FINAL_SHARE * num_steps),
        deltaT=max(1, num_steps // 100),
        total_step=num_steps,
    )


ADALORA = AdaLoraMethod()
