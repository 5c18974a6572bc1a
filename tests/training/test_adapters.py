"""Adapters: the plan's ranks in PEFT, nested starts, constant scale."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from jointsearch.config import StudyConfig
from jointsearch.layout import ModelLayout
from jointsearch.plan import LoraSettings, Plan
from jointsearch.plan_file import lora_config
from jointsearch.space import SearchSpace
from jointsearch.training.adapters import adapter_starts, attach_adapters, initial_rows
from jointsearch.training.base_model import load_base


def mixed_plan(space: SearchSpace) -> Plan:
    """Ranks 0, 2 and 8 in turn."""
    values = {name: position % len(space.parameters[name]) for position, name in enumerate(space.parameters)}
    return space.plan(values)


def test_starts_are_nested_in_the_rank_and_differ_by_module() -> None:
    assert torch.equal(initial_rows(0, "a.q_proj", 16, 96)[:4], initial_rows(0, "a.q_proj", 4, 96))
    assert not torch.equal(initial_rows(0, "a.q_proj", 4, 96), initial_rows(0, "a.k_proj", 4, 96))
    assert not torch.equal(initial_rows(0, "a.q_proj", 4, 96), initial_rows(1, "a.q_proj", 4, 96))
    rows = initial_rows(0, "a.q_proj", 512, 96)
    assert rows.abs().max() <= 96**-0.5
    # the variance of U(-b, b) is b²/3
    assert rows.var().item() == pytest.approx(1 / 96 / 3, rel=0.03)


def test_every_module_has_its_rank_scale_and_start(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = mixed_plan(space)
    base = load_base(config.model, "causal-lm", "float16", torch.device("cpu"))
    model = attach_adapters(base, plan, tiny_layout, "causal-lm", adapter_starts(base, plan, tiny_layout, 7))
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }
    assert {2, 8} == {layer.r["default"] for layer in layers.values()}
    for name, choice in plan.modules.items():
        if choice.rank == 0:
            assert name not in layers
            continue
        layer = layers[name]
        assert layer.r["default"] == choice.rank
        assert layer.scaling["default"] == plan.lora.alpha_over_rank
        start = layer.lora_A["default"].weight
        assert torch.equal(start, initial_rows(7, name, choice.rank, layer.in_features))
        assert layer.lora_B["default"].weight.abs().sum() == 0
        assert start.dtype == torch.float32


def test_adapters_can_be_bfloat16(config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace) -> None:
    plan = mixed_plan(space).model_copy(update={"lora": LoraSettings(dtype="bfloat16")})
    base = load_base(config.model, "causal-lm", "float16", torch.device("cpu"))
    model = attach_adapters(base, plan, tiny_layout, "causal-lm", adapter_starts(base, plan, tiny_layout, 0))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.bfloat16}


def test_a_person_without_jointsearch_can_use_the_arguments(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = mixed_plan(space)
    arguments = json.loads(json.dumps(lora_config(plan, tiny_layout)))
    stock = get_peft_model(AutoModelForCausalLM.from_pretrained(config.model.id), LoraConfig(**arguments))
    ranks = {
        name.removeprefix("base_model.model."): layer.r["default"]
        for name, layer in stock.named_modules()
        if isinstance(layer, LoraLayer)
    }
    assert ranks == plan.ranks


def test_a_plan_without_ranks_trains_nothing(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = space.plan(space.uniform(4, 0))
    base = load_base(config.model, "causal-lm", "float16", torch.device("cpu"))
    model = attach_adapters(base, plan, tiny_layout, "causal-lm", adapter_starts(base, plan, tiny_layout, 0))
    assert model is base
    assert not any(parameter.requires_grad for parameter in model.parameters())
