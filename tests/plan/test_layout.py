from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.plan import ModuleChoice, Plan

LAYOUT = ModelLayout.model_validate_json((Path(__file__).parents[1] / "fixtures/layout.json").read_text())
LEFT_ALONE = {spec.name: ModuleChoice(bits=16, rank=0) for spec in LAYOUT.modules}


def test_parameters_are_weights_biases_and_the_rest() -> None:
    # a tied head is counted once, with the embedding
    block = (64 * 64 + 64) + 64 * 64 + 96 * 64 + 64 * 96
    assert LAYOUT.num_parameters == 100 * 64 + 2 * block + 320


def test_modules_are_found_by_name() -> None:
    assert LAYOUT["layers.1.mlp.up"].shape == (96, 64)
    assert LAYOUT["layers.1.mlp.up"].num_weights == 6144
    with pytest.raises(KeyError):
        LAYOUT["layers.2.mlp.up"]


def test_json_keeps_everything() -> None:
    again = ModelLayout.model_validate_json(LAYOUT.model_dump_json())
    assert again == LAYOUT
    assert again["embed"].tied == ("head",)


def test_a_fitting_plan_passes() -> None:
    Plan(modules=LEFT_ALONE | {"layers.0.attn.q": ModuleChoice(bits=4, rank=64)}).check(LAYOUT)


def test_a_plan_must_name_exactly_the_modules() -> None:
    modules = {f"gpt.{number}": ModuleChoice(bits=4, rank=0) for number in range(6)} | LEFT_ALONE
    del modules["layers.0.attn.q"]
    with pytest.raises(PlanError) as caught:
        Plan(modules=modules).check(LAYOUT)
    assert str(caught.value) == (
        "a plan must name the model's modules, but [gpt.0, gpt.1, gpt.2, gpt.3, … 2 more] in the plan and "
        "[layers.0.attn.q] in SmallForCausalLM do not match; use the model that the plan was made for"
    )


def test_what_a_module_cannot_have_is_refused() -> None:
    with pytest.raises(PlanError, match="embed cannot have an adapter, but the plan gives it rank 2"):
        Plan(modules=LEFT_ALONE | {"embed": ModuleChoice(bits=16, rank=2)}).check(LAYOUT)
    fixed = LAYOUT.modules[0].model_copy(update={"quantizable": False})
    layout = LAYOUT.model_copy(update={"modules": (fixed, *LAYOUT.modules[1:])})
    with pytest.raises(PlanError, match="embed cannot be quantized, but the plan gives it 8 bits"):
        Plan(modules=LEFT_ALONE | {"embed": ModuleChoice(bits=8, rank=0)}).check(layout)


def test_unknown_kinds_and_fields_are_refused() -> None:
    fields = LAYOUT.modules[1].model_dump(mode="json")
    with pytest.raises(ValidationError, match="kind"):
        ModuleSpec.model_validate(fields | {"kind": "conv2d"})
    with pytest.raises(ValidationError, match="colour"):
        ModuleSpec.model_validate(fields | {"colour": "red"})
