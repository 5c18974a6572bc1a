from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.methods import METHODS, Method
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import ModuleChoice, Plan

MODULES = {
    "b": ModuleChoice(bits=8, rank=0),
    "a": ModuleChoice(bits=4, rank=16),
    "c": ModuleChoice(bits=16, rank=2),
}


def test_digest_is_the_sha256_of_the_canonical_json() -> None:
    plan = Plan(modules={"b": ModuleChoice(bits=16, rank=0), "a": ModuleChoice(bits=4, rank=8)})
    text = (
        '{"lora":{"alpha":16.0,"alpha_over_rank":null,"dropout":0.0,"dtype":"float32",'
        '"init":"default","variant":"lora"},'
        '"modules":{"a":{"bits":4,"rank":8},"b":{"bits":16,"rank":0}},'
        '"quantization":{"double_quant":true,"int8_threshold":6.0}}'
    )
    assert plan.digest == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_digest_does_not_depend_on_the_order_of_modules() -> None:
    turned = dict(reversed(MODULES.items()))
    assert list(turned) != list(MODULES)
    assert Plan(modules=turned).digest == Plan(modules=MODULES).digest
    assert list(Plan(modules=turned).modules) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        {"modules": MODULES | {"a": ModuleChoice(bits=8, rank=16)}},
        {"modules": MODULES | {"a": ModuleChoice(bits=4, rank=8)}},
        {"modules": MODULES | {"d": ModuleChoice(bits=16, rank=0)}},
        {"quantization": QuantizationSettings(double_quant=False)},
        {"quantization": QuantizationSettings(int8_threshold=0)},
        {"lora": LoraSettings(alpha_over_rank=1)},
        {"lora": LoraSettings(dropout=0.1)},
        {"lora": LoraSettings(variant="dora")},
        {"lora": LoraSettings(init="loftq")},
        {"lora": LoraSettings(dtype="bfloat16")},
    ],
)
def test_any_difference_changes_the_digest(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"modules": MODULES, **change}
    assert Plan(**fields).digest != Plan(modules=MODULES).digest


def test_only_quantized_and_adapted_modules_are_listed() -> None:
    plan = Plan(modules=MODULES)
    assert plan.bits == {"a": 4, "b": 8}
    assert plan.ranks == {"a": 16, "c": 2}


def test_json_keeps_everything() -> None:
    plan = Plan(
        modules=MODULES,
        quantization=QuantizationSettings(double_quant=False, int8_threshold=3.5),
        lora=LoraSettings(alpha_over_rank=1.5, dropout=0.1, dtype="bfloat16"),
    )
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.digest == plan.digest


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"modules": {"a": {"bits": 5, "rank": 0}}}, ("modules", "a")),
        ({"modules": {"a": {"bits": 4, "rank": -1}}}, ("modules", "a", "rank")),
        ({"modules": {"a": {"bits": 4, "rank": 1, "alpha": 2}}}, ("modules", "a", "alpha")),
        ({"modules": {}, "bits": 4}, ("bits",)),
        ({"modules": {}, "lora": {"dropout": 1.0}}, ("lora", "dropout")),
        ({"modules": {}, "lora": {"alpha_over_rank": 0}}, ("lora", "alpha_over_rank")),
        ({"modules": {}, "quantization": {"int8_threshold": -1}}, ("quantization", "int8_threshold")),
    ],
)
def test_values_outside_of_the_rules_are_refused(fields: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Plan.model_validate(fields)
    assert caught.value.errors()[0]["loc"] == place


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Plan(modules=MODULES).lora = LoraSettings()  # type: ignore[misc]


def test_the_scale_falls_with_the_rank_or_its_root_or_is_the_same_for_all() -> None:
    default = LoraSettings()
    assert [(default.alpha_of(rank), default.scale(rank)) for rank in (2, 16)] == [(16, 8), (16, 1)]
    plain = LoraSettings(alpha_over_rank=1.5)
    assert [(plain.alpha_of(rank), plain.scale(rank)) for rank in (2, 16)] == [(3.0, 1.5), (24.0, 1.5)]
    stabilized = LoraSettings(variant="rslora", alpha=12)
    assert [(stabilized.alpha_of(rank), stabilized.scale(rank)) for rank in (4, 16)] == [(12, 6), (12, 3)]
    assert LoraSettings(variant="rslora").scale(16) == 2.0
    # as plans were written when alpha / rank was the same for all
    assert LoraSettings(alpha_over_rank=2.0, alpha=None).scale(16) == 2.0
    assert LoraSettings(variant="rslora", alpha_over_rank=2.0, alpha=None).scale(16) == 2.0
    assert LoraSettings(variant="rslora", alpha_over_rank=2.0, alpha=12).scale(16) == 3.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 8, "alpha_over_rank": 2}, "adapters have alpha or alpha_over_rank, but got 8 and 2"),
        ({"variant": "dora", "init": "pissa"}, "init: pissa is for the variants lora and rslora"),
        ({"variant": "dora", "init": "loftq"}, "init: loftq is for the variants lora and rslora"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoraSettings(**fields)


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method from outside: one alpha for all ranks, half of LoRA's scale, an argument of PEFT's."""
    monkeypatch.setattr(METHODS, "_items", dict(METHODS._items))
    METHODS.register(
        Method(
            "halved",
            "outside:METHOD",
            scale=lambda alpha, rank: alpha / (2 * rank),
            alpha=10,
            other_starts=True,
            peft_arguments={"use_dora": True},
        )
    )
    return "halved"


def test_a_method_says_its_scale_its_starts_and_its_arguments(halved: str, layout: ModelLayout) -> None:
    settings = LoraSettings(variant=halved, alpha=12, init="pissa")
    assert [(settings.alpha_of(rank), settings.scale(rank)) for rank in (2, 3)] == [(12, 3), (12, 2)]
    name = next(spec.name for spec in layout.modules if spec.adaptable)
    plan = Plan(modules={name: ModuleChoice(format="16bit", rank=2)}, lora=settings)
    assert lora_config(plan, layout)["use_dora"] is True
    assert lora_config(plan, layout)["use_rslora"] is False
    assert LoraSettings(variant=halved).alpha == 10
