"""Byte counts by hand: NF4 packs two weights in a byte, with a scale for every 64 weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jointsearch.errors import PlanError
from jointsearch.plan.cost import adapter_parameters, plan_cost, weight_bytes
from jointsearch.plan.formats import OF_BITS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import ModuleChoice, Plan

LAYOUT = ModelLayout.model_validate_json((Path(__file__).parents[1] / "fixtures/layout.json").read_text())
SINGLE = QuantizationSettings(double_quant=False)
DOUBLE = QuantizationSettings()


def linear(out_features: int, in_features: int, **fields: Any) -> ModuleSpec:
    shape = (out_features, in_features)
    return ModuleSpec(name="m", kind="linear", block="", part=Part.MLP, shape=shape, **fields)


@pytest.mark.parametrize(
    ("shape", "bits", "settings", "expected"),
    [
        ((64, 64), 16, DOUBLE, 4096 * 2),
        ((64, 96), 8, DOUBLE, 6144 + 64 * 4 + 1),  # one scale for each of the 64 rows
        ((96, 64), 8, DOUBLE, 6144 + 96 * 4 + 1),
        ((64, 64), 4, SINGLE, 2048 + 64 * 4 + 64),
        ((64, 64), 4, DOUBLE, 2048 + 64 * 1 + 1 * 4 + 64 + 1024),
        ((3, 5), 4, SINGLE, 8 + 1 * 4 + 64),  # 15 weights: a byte and a block that are not full
        ((3, 5), 4, DOUBLE, 8 + 1 * 1 + 1 * 4 + 64 + 1024),
        ((256, 64), 4, DOUBLE, 8192 + 256 + 1 * 4 + 64 + 1024),  # exactly one block of scales
        ((257, 64), 4, DOUBLE, 8224 + 257 + 2 * 4 + 64 + 1024),  # and one scale more
        ((1, 65), 4, SINGLE, 33 + 2 * 4 + 64),
    ],
)
def test_weight_bytes(
    shape: tuple[int, int], bits: int, settings: QuantizationSettings, expected: int
) -> None:
    assert weight_bytes(linear(*shape), OF_BITS[bits], settings) == expected


def test_adapter_parameters_are_those_of_a_and_b() -> None:
    # A is (rank, in), B is (out, rank)
    assert adapter_parameters(linear(96, 64), 4, LoraSettings()) == 4 * 64 + 96 * 4
    assert adapter_parameters(linear(96, 64), 0, LoraSettings()) == 0
    assert adapter_parameters(linear(96, 64, has_bias=True), 4, LoraSettings()) == 4 * 64 + 96 * 4


def test_a_new_head_is_trained_in_full() -> None:
    assert adapter_parameters(linear(3, 64, trained=True, adaptable=False), 0, LoraSettings()) == 3 * 64
    assert (
        adapter_parameters(linear(3, 64, trained=True, adaptable=False, has_bias=True), 0, LoraSettings())
        == 3 * 64 + 3
    )


def test_plan_cost_of_a_mixed_plan() -> None:
    choices = {
        "embed": (8, 0),
        "layers.0.attn.q": (4, 2),
        "layers.0.attn.o": (4, 2),
        "layers.0.mlp.up": (8, 4),
        "layers.0.mlp.down": (8, 4),
        "layers.1.attn.q": (16, 0),
        "layers.1.attn.o": (16, 0),
        "layers.1.mlp.up": (16, 8),
        "layers.1.mlp.down": (16, 8),
    }
    plan = Plan(
        modules={name: ModuleChoice(bits=bits, rank=rank) for name, (bits, rank) in choices.items()},
        quantization=SINGLE,
        lora=LoraSettings(dtype="bfloat16"),
    )

    embedding = 100 * 64 + 100 * 4 + 1
    attention_0 = 2 * (2048 + 64 * 4 + 64)
    mlp_0 = (6144 + 96 * 4 + 1) + (6144 + 64 * 4 + 1)
    attention_1 = 2 * 4096 * 2
    mlp_1 = 2 * 6144 * 2
    weights = embedding + attention_0 + mlp_0 + attention_1 + mlp_1
    bias = 64 * 2  # of each block's q
    attention_0_lora = 2 * (2 * 64 + 64 * 2)
    mlp_0_lora = (4 * 64 + 96 * 4) + (4 * 96 + 64 * 4)
    mlp_1_lora = (8 * 64 + 96 * 8) + (8 * 96 + 64 * 8)
    trained = attention_0_lora + mlp_0_lora + mlp_1_lora
    num_weights = 100 * 64 + 2 * (2 * 64 * 64 + 2 * 96 * 64)
    num_parameters = num_weights + 2 * 64 + 320

    cost = plan_cost(LAYOUT, plan)
    assert cost.base_bytes == weights + 2 * bias + 640
    assert cost.adapter_bytes == 2 * trained
    assert cost.model_bytes == weights + 2 * bias + 640 + 2 * trained
    assert cost.trainable_parameters == trained
    assert cost.trainable_share == pytest.approx(trained / (num_parameters + trained), rel=1e-12)
    assert cost.bits_per_weight == pytest.approx(8 * weights / num_weights, rel=1e-12)
    assert cost.bytes_by_part == {
        "embedding": embedding,
        "attention": attention_0 + attention_1 + 2 * bias + 2 * attention_0_lora,
        "mlp": mlp_0 + mlp_1 + 2 * (mlp_0_lora + mlp_1_lora),
        "other": 640,
    }
    assert cost.as_dict()["model_bytes"] == cost.model_bytes


def test_a_plan_of_16_bits_without_adapters_is_the_model_itself() -> None:
    plan = Plan(modules={spec.name: ModuleChoice(bits=16, rank=0) for spec in LAYOUT.modules})
    cost = plan_cost(LAYOUT, plan)
    num_weights = 100 * 64 + 2 * (2 * 64 * 64 + 2 * 96 * 64)
    assert cost.model_bytes == cost.base_bytes == 2 * num_weights + 2 * 64 * 2 + 640
    assert (cost.adapter_bytes, cost.trainable_parameters, cost.trainable_share) == (0, 0, 0)
    assert cost.bits_per_weight == 16


def test_adapters_of_float32_take_4_bytes_a_parameter() -> None:
    spec = linear(64, 64)
    layout = ModelLayout(
        architecture="One", dtype="bfloat16", modules=(spec,), other_parameters=0, other_bytes=0
    )
    cost = plan_cost(layout, Plan(modules={"m": ModuleChoice(bits=16, rank=3)}))
    assert cost.adapter_bytes == 4 * (3 * 64 + 64 * 3)


def test_a_plan_for_another_model_has_no_cost() -> None:
    with pytest.raises(PlanError, match=r"\[elsewhere\] in the plan"):
        plan_cost(LAYOUT, Plan(modules={"elsewhere": ModuleChoice(bits=4, rank=0)}))
