"""LoRA adapters of a plan, with a start that depends on the seed and the module's name alone.

LoRA adds (alpha / r) B A to a weight, with A of shape (r, in) drawn at random and B of shape
(out, r) zero at the start (Hu et al., arXiv 2106.09685, section 4.1). PEFT draws A from
U(-1/√in, 1/√in). Here row i of A is the same for every rank r > i: plans then differ only where
they differ, and comparing them needs fewer trials (common random numbers).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.layout import ModelLayout
from jointsearch.plan import Plan
from jointsearch.plan_file import lora_config

ADAPTER = "default"


def attach_adapters(
    model: PreTrainedModel, plan: Plan, layout: ModelLayout, task_type: str, seed: int
) -> PeftModel | PreTrainedModel:
    """``model`` with the plan's adapters; the model itself where the plan trains nothing."""
    arguments = lora_config(plan, layout, task_type)
    if not arguments["target_modules"] and not arguments["modules_to_save"]:
        return model.requires_grad_(False)
    peft_model = get_peft_model(model, LoraConfig(**arguments))
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in peft_model.named_modules()
        if isinstance(layer, LoraLayer)
    }
    # PEFT matches names by patterns and is silent about those that match nothing or too much.
    attached = {name: layer.r[ADAPTER] for name, layer in layers.items()}
    if attached != plan.ranks:
        wrong = sorted(
            name for name in attached.keys() | plan.ranks if attached.get(name) != plan.ranks.get(name)
        )
        raise PlanError(f"PEFT gave other ranks than the plan to {', '.join(wrong[:5])}")
    for name, layer in layers.items():
        start = layer.lora_A[ADAPTER].weight
        start.data.copy_(initial_rows(seed, name, *start.shape))
    dtype = getattr(torch, plan.lora.dtype)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return peft_model


def initial_rows(seed: int, name: str, rank: int, in_features: int) -> torch.Tensor:
    """The first ``rank`` rows of the module's A, float32, shape (rank, in_features)."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    bound = in_features**-0.5
    rows = np.random.default_rng([seed, key]).random((rank, in_features), dtype=np.float32)
    return torch.from_numpy((2 * rows - 1) * np.float32(bound))
