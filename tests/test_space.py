from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jointsearch.config.space import SpaceSettings
from jointsearch.errors import StudyFileError
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.space import SearchSpace

LAYOUT = ModelLayout.model_validate_json((Path(__file__).parent / "fixtures/layout.json").read_text())


def build(layout: ModelLayout = LAYOUT, **settings: Any) -> SearchSpace:
    values = {"bits": [4, 8, 16], "ranks": [0, 4], **settings}
    return SearchSpace.build(layout, SpaceSettings.model_validate(values))


def members(space: SearchSpace) -> dict[str, list[str]]:
    return {group.name: [spec.name for spec in group.modules] for group in space.groups}


def test_groups_by_part() -> None:
    assert members(build()) == {
        "embedding": ["embed"],
        "layers.0.attention": ["layers.0.attn.q", "layers.0.attn.o"],
        "layers.0.mlp": ["layers.0.mlp.up", "layers.0.mlp.down"],
        "layers.1.attention": ["layers.1.attn.q", "layers.1.attn.o"],
        "layers.1.mlp": ["layers.1.mlp.up", "layers.1.mlp.down"],
    }


def test_groups_by_block_hold_several_parts() -> None:
    space = build(group_by="block")
    assert list(members(space)) == ["embedding", "layers.0", "layers.1"]
    assert len(members(space)["layers.1"]) == 4
    assert [group.part for group in space.groups] == ["embedding", None, None]


def test_groups_by_module() -> None:
    space = build(group_by="module")
    assert members(space) == {spec.name: [spec.name] for spec in LAYOUT.modules}


def test_a_choice_of_one_is_no_parameter() -> None:
    space = build(bits=[4, 16], ranks=[4], exclude=["layers.1.*"])
    assert space.parameters == {
        "embedding.bits": (4, 16),
        "layers.0.attention.bits": (4, 16),
        "layers.0.mlp.bits": (4, 16),
    }
    assert space.plan({}).modules["layers.0.mlp.up"].rank == 4


def test_an_embedding_without_an_adapter_has_no_rank() -> None:
    space = build()
    assert "embedding.bits" in space.parameters
    assert "embedding.rank" not in space.parameters
    assert len(space.parameters) == 1 + 4 * 2


def test_what_cannot_be_quantized_keeps_16_bits() -> None:
    fixed = LAYOUT["layers.0.attn.q"].model_copy(update={"quantizable": False})
    modules = tuple(fixed if spec.name == fixed.name else spec for spec in LAYOUT.modules)
    space = build(LAYOUT.model_copy(update={"modules": modules}))
    plan = space.plan({"layers.0.attention.bits": 0, "layers.0.attention.rank": 1})
    assert (plan.modules["layers.0.attn.q"].bits, plan.modules["layers.0.attn.q"].rank) == (16, 4)
    assert (plan.modules["layers.0.attn.o"].bits, plan.modules["layers.0.attn.o"].rank) == (4, 4)
    by_module = build(LAYOUT.model_copy(update={"modules": modules}), group_by="module")
    assert "layers.0.attn.q.bits" not in by_module.parameters
    assert "layers.0.attn.q.rank" in by_module.parameters


def test_a_module_that_can_have_nothing_is_left_out() -> None:
    fixed = LAYOUT["embed"].model_copy(update={"quantizable": False})
    space = build(LAYOUT.model_copy(update={"modules": (fixed, *LAYOUT.modules[1:])}))
    assert "embedding" not in members(space)
    choice = space.plan({}).modules["embed"]
    assert (choice.bits, choice.rank) == (16, 0)


def test_plan_reads_positions_in_the_sorted_choices() -> None:
    space = SearchSpace.build(
        LAYOUT,
        SpaceSettings(bits=(16, 4, 8), ranks=(8, 0, 4)),
        QuantizationSettings(double_quant=False),
        LoraSettings(dtype="bfloat16"),
    )
    values = dict.fromkeys(space.parameters, 0)
    plan = space.plan(values | {"layers.0.mlp.bits": 1, "layers.0.mlp.rank": 2, "embedding.bits": 2})
    expected = {spec.name: (4, 0) for spec in LAYOUT.modules}
    expected |= {"embed": (16, 0), "layers.0.mlp.up": (8, 8), "layers.0.mlp.down": (8, 8)}
    assert {name: (choice.bits, choice.rank) for name, choice in plan.modules.items()} == expected
    assert plan.quantization.double_quant is False
    assert plan.lora.dtype == "bfloat16"


def test_excluded_modules_are_left_alone() -> None:
    space = build(include=["layers.*"], exclude=["*.down"])
    assert "embedding" not in members(space)
    assert members(space)["layers.0.mlp"] == ["layers.0.mlp.up"]
    plan = space.plan(dict.fromkeys(space.parameters, 0))
    alone = {name for name, choice in plan.modules.items() if choice.bits == 16 and choice.rank == 0}
    assert alone == {"embed", "layers.0.mlp.down", "layers.1.mlp.down"}
    plan.check(LAYOUT)


def test_the_last_override_that_matches_wins() -> None:
    space = build(
        overrides=[
            {"group": "*.mlp", "bits": [8], "ranks": [8, 2]},
            {"group": "layers.1.mlp", "bits": [16, 4]},
        ]
    )
    choices = {group.name: (group.bits, group.ranks) for group in space.groups}
    assert choices["layers.0.mlp"] == ((8,), (2, 8))
    assert choices["layers.1.mlp"] == ((4, 16), (2, 8))
    assert choices["layers.1.attention"] == ((4, 8, 16), (0, 4))


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [
        (
            {"include": ["layers.0.attn.k"]},
            ["search_space.include", "'layers.0.attn.k' matches none of 9", "'layers.0.attn.q'?"],
        ),
        ({"exclude": ["zzz"]}, ["search_space.exclude", "'zzz' matches none of 9 (the first is 'embed')"]),
        (
            {"overrides": [{"group": "layers.0.mpl", "bits": [4]}]},
            ["search_space.overrides", "'layers.0.mpl' matches none of 5", "did you mean 'layers.0.mlp'?"],
        ),
        ({"exclude": ["*"]}, ["must keep at least one module", "leave none of 9"]),
        (
            {"ranks": [4, 65]},
            ["at most the smaller side", "rank 65", "layers.0.attn.q", "(64, 64)", "'layers.0.attention'"],
        ),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings: dict[str, Any], pieces: list[str]) -> None:
    with pytest.raises(StudyFileError) as caught:
        build(**settings)
    message = str(caught.value)
    assert [piece for piece in pieces if piece not in message] == [], message
    assert "\n" not in message


def test_a_rank_may_be_as_large_as_the_smaller_side() -> None:
    assert build(ranks=[0, 64]).parameters["layers.0.mlp.rank"] == (0, 64)


@pytest.mark.parametrize("settings", [{"bits": [4, 4]}, {"ranks": []}, {"bits": [2]}, {"ranks": [-1]}])
def test_choices_must_be_possible_and_differ(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        SpaceSettings.model_validate(settings)


def test_baselines_are_every_bits_times_rank() -> None:
    space = build()
    found = list(space.baselines())
    assert [baseline.origin.name for baseline in found] == [
        f"uniform {bits}-bit rank {rank}" for bits in (4, 8, 16) for rank in (0, 4)
    ]
    for baseline, (bits, rank) in zip(found, [(b, r) for b in (4, 8, 16) for r in (0, 4)], strict=True):
        modules = baseline.plan.modules
        assert {choice.bits for choice in modules.values()} == {bits}
        assert {choice.rank for name, choice in modules.items() if name != "embed"} == {rank}
        assert modules["embed"].rank == 0
        assert baseline.params.keys() == space.parameters.keys()


def test_baselines_take_the_nearest_choice_and_come_once() -> None:
    space = build(bits=[4, 16], ranks=[0, 2], overrides=[{"group": "*.mlp", "bits": [8]}])
    found = {
        baseline.origin.name: {name: choice.bits for name, choice in baseline.plan.modules.items()}
        for baseline in space.baselines()
    }
    # some group has 8 bits; the others are as near to 4, so "uniform 8-bit" would be the first plan again
    assert list(found) == [f"uniform {bits}-bit rank {rank}" for bits in (4, 16) for rank in (0, 2)]
    assert found["uniform 4-bit rank 0"]["layers.0.mlp.up"] == 8
    assert found["uniform 4-bit rank 0"]["layers.0.attn.q"] == 4
    assert found["uniform 16-bit rank 2"]["layers.0.attn.q"] == 16


def test_the_label_of_a_baseline_says_its_rank() -> None:
    """Also where the one rank is no choice, and the embedding cannot have it."""
    space = build(bits=[4, 16], ranks=[2])
    found = list(space.baselines())
    assert {choice.rank for baseline in found for choice in baseline.plan.modules.values()} == {
        0,
        2,
    }
    assert [baseline.origin.name for baseline in found] == ["uniform 4-bit rank 2", "uniform 16-bit rank 2"]


def test_samples_cover_every_choice_and_repeat_with_the_seed() -> None:
    space = build()
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(200)]
    for name, choices in space.parameters.items():
        assert {values[name] for values in drawn} == set(range(len(choices)))
    assert space.sample(random.Random(5)) == space.sample(random.Random(5))


@pytest.mark.parametrize("group_by", ["block", "part", "module"])
def test_values_of_a_plan_are_those_it_was_made_of(group_by: str) -> None:
    fixed = LAYOUT["layers.0.attn.q"].model_copy(update={"quantizable": False})
    modules = tuple(fixed if spec.name == fixed.name else spec for spec in LAYOUT.modules)
    space = build(
        LAYOUT.model_copy(update={"modules": modules}),
        group_by=group_by,
        exclude=["*.down"],
        ranks=[0, 2, 8],
        overrides=[{"group": "layers.1*", "ranks": [2]}],
    )
    rng = random.Random(4)
    for _ in range(100):
        values = space.sample(rng)
        assert space.params_of(space.plan(values)) == values


def test_plans_outside_of_the_space_have_no_values() -> None:
    space = build()
    plan = space.plan(dict.fromkeys(space.parameters, 0))
    choices = plan.modules

    def changed(name: str, **choice: Any) -> Plan:
        other = choices[name].model_copy(update=choice)
        return plan.model_copy(update={"modules": {**choices, name: other}})

    assert space.params_of(plan) == dict.fromkeys(space.parameters, 0)
    outside = {
        "a rank that is no choice": changed("layers.0.attn.q", rank=3),
        "two bits in one group": changed("layers.0.attn.q", format="int8"),
        "two ranks in one group": changed("layers.0.attn.q", rank=4),
        "an adapter where none can be": changed("embed", rank=4),
        "a module less": plan.model_copy(
            update={"modules": {name: choice for name, choice in choices.items() if name != "embed"}}
        ),
        "another quantization": plan.model_copy(
            update={"quantization": QuantizationSettings(double_quant=False)}
        ),
        "another lora": plan.model_copy(update={"lora": LoraSettings(dtype="bfloat16")}),
    }
    assert {what: space.params_of(other) for what, other in outside.items()} == dict.fromkeys(outside)
    assert build(exclude=["embed"]).params_of(changed("embed", format="nf4")) is None
