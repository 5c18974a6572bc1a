"""Every rule on a model of two blocks of four modules, small enough to say by hand what must come out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import Bounds, LinearConstraint, milp

from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import StudyConfig
from jointsearch.errors import PlanError
from jointsearch.plan.cost import plan_cost, weight_bytes
from jointsearch.plan.formats import OF_BITS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import ModuleSensitivity, Sensitivities
from jointsearch.space import SearchSpace
from jointsearch.strategies.ranks import ranks_at_mean
from jointsearch.strategies.registry import STRATEGIES, strategy
from jointsearch.strategies.rules.errors import least_errors
from jointsearch.strategies.settings import StrategySettings

SETTINGS = StrategySettings(rank=8)
MODULES = [
    f"layers.{block}.{name}" for block in (0, 1) for name in ("attn.q", "attn.o", "mlp.up", "mlp.down")
]


def sensitivities(layout: ModelLayout, **by_module: dict[str, float]) -> Sensitivities:
    """1 everywhere but where ``by_module`` says otherwise (an underscore for every dot)."""
    modules = {}
    for spec in layout.modules:
        values = {"weight": 0.1, "output": 0.1, "gradient": 1.0, "movement": 1.0, "fisher": 1.0}
        values |= by_module.get(spec.name.replace(".", "_"), {})
        modules[spec.name] = ModuleSensitivity(
            weight_norm=1.0,
            weight_error={4: values["weight"], 8: values["weight"] / 10},
            output_error={4: values["output"], 8: values["output"] / 10},
            gradient_norm=values["gradient"],
            movement=values["movement"],
            fisher=values["fisher"],
        )
    return Sensitivities(modules=modules)


def plan(
    name: str, layout: ModelLayout, settings: StrategySettings = SETTINGS, max_bytes: int | None = None
) -> Plan:
    return strategy(name).plan(layout, settings, max_bytes)


def test_uniform_is_one_bits_and_one_rank(layout: ModelLayout) -> None:
    for name, bits in (("uniform", 4), ("qlora", 4), ("llm-int8", 8), ("lora", 16)):
        made = plan(name, layout)
        assert {choice.bits for choice in made.modules.values()} == {bits}
        assert made.ranks == dict.fromkeys(MODULES, 8)
    assert plan("uniform", layout, replace(SETTINGS, bits=8)) == plan("llm-int8", layout)


def test_linear_decay_is_12_at_the_top_and_4_at_the_bottom_for_a_mean_of_8(layout: ModelLayout) -> None:
    ranks = plan("linear-decay", layout).ranks
    assert {ranks[name] for name in MODULES if name.startswith("layers.1.")} == {12}
    assert {ranks[name] for name in MODULES if name.startswith("layers.0.")} == {4}


def test_linear_decay_between_the_ends(layout: ModelLayout) -> None:
    """Five blocks of one module: 1.5, 1.25, 1, 0.75 and 0.5 times 8, from the top."""
    one = layout["layers.0.attn.q"]
    blocks = [one.model_copy(update={"name": f"b.{i}.q", "block": f"b.{i}"}) for i in range(5)]
    deep = layout.model_copy(update={"modules": tuple(blocks)})
    assert list(plan("linear-decay", deep).ranks.values()) == [4, 6, 8, 10, 12]


def test_parts_that_come_first_have_three_times_the_rank_at_the_mean_asked_for(layout: ModelLayout) -> None:
    for name, first in (("attention-first", Part.ATTENTION), ("ffn-first", Part.MLP)):
        ranks = plan(name, layout).ranks
        assert {ranks[module] for module in MODULES if layout[module].part is first} == {12}
        assert {ranks[module] for module in MODULES if layout[module].part is not first} == {4}


@pytest.mark.parametrize(
    ("name", "measure", "factor"),
    [("gradient", "gradient", 3.0), ("movement", "movement", 3.0), ("fisher", "fisher", 9.0)],
)
def test_ranks_follow_what_was_measured(layout: ModelLayout, name: str, measure: str, factor: float) -> None:
    """One module of eight has three times the share (nine times the Fisher): 64 · 3/10 and 64 · 1/10."""
    measured = sensitivities(layout, layers_1_attn_q={measure: factor})
    ranks = plan(name, layout, replace(SETTINGS, sensitivities=measured)).ranks
    assert sum(ranks.values()) == 64
    assert ranks["layers.1.attn.q"] == 19
    assert sorted(set(ranks.values())) == [6, 7, 19]


def test_ranks_keep_their_mean_and_no_rank_is_above_its_module(layout: ModelLayout) -> None:
    rng = random.Random(0)
    for mean in (1, 3, 8, 20, 64):
        weights = {name: rng.random() for name in MODULES}
        ranks = ranks_at_mean(layout, replace(SETTINGS, rank=mean), weights)
        assert sum(ranks.values()) == mean * 8
        assert max(ranks.values()) <= 64
    assert set(ranks.values()) == {64}


def test_complementary_and_its_opposite(layout: ModelLayout) -> None:
    made, opposite = plan("complementary", layout), plan("complementary-reversed", layout)
    for name in MODULES:
        top = name.startswith("layers.1.")
        assert (made.modules[name].bits, made.modules[name].rank) == ((4, 12) if top else (8, 4))
        assert opposite.modules[name].bits == (8 if top else 4)
    assert made.ranks == opposite.ranks


def test_sensitive_parts_have_8_bits(layout: ModelLayout) -> None:
    bits = plan("sensitive-8bit", layout).bits
    assert {name for name, of_module in bits.items() if of_module == 8} == {"embed"}
    assert {of_module for name, of_module in bits.items() if name != "embed"} == {4}


def test_encoder_decoder_and_cross_attention(layout: ModelLayout) -> None:
    def turned(name: str, block: str, part: Part) -> object:
        return layout["layers.0.attn.q"].model_copy(update={"name": name, "block": block, "part": part})

    modules = (
        layout["embed"],
        turned("encoder.0.q", "encoder.0", Part.ATTENTION),
        turned("decoder.0.q", "decoder.0", Part.ATTENTION),
        turned("decoder.0.c", "decoder.0", Part.CROSS_ATTENTION),
    )
    both = layout.model_copy(update={"modules": modules})

    def at_8(name: str) -> set[str]:
        return {module for module, bits in plan(name, both).bits.items() if bits == 8}

    assert at_8("encoder-8bit-decoder-4bit") == {"encoder.0.q"}
    assert at_8("encoder-4bit-decoder-8bit") == {"decoder.0.q", "decoder.0.c"}
    assert at_8("cross-attention-8bit") == {"decoder.0.c"}


def test_the_largest_errors_get_more_bits(layout: ModelLayout) -> None:
    """Two q matrices of 64 × 64 fit between 4 bits and the budget, which the two largest errors get."""
    base = plan("qlora", layout)
    more = 4096 + 4 * 64 + 1 - (2048 + 64 + 64 + 4 + 1024)  # int8 instead of NF4 with double quantization
    budget = plan_cost(layout, base).model_bytes + 2 * more
    for name, measure in (("quantization-error", "weight"), ("output-error", "output")):
        measured = sensitivities(layout, layers_0_attn_o={measure: 0.3}, layers_1_attn_q={measure: 0.2})
        made = plan(name, layout, replace(SETTINGS, sensitivities=measured), budget)
        assert {n for n, bits in made.bits.items() if bits == 8} == {"layers.0.attn.o", "layers.1.attn.q"}
        assert made.ranks == base.ranks
        assert plan_cost(layout, made).model_bytes == budget


def test_a_large_budget_gives_16_bits(layout: ModelLayout) -> None:
    measured = replace(SETTINGS, sensitivities=sensitivities(layout))
    budget = plan_cost(layout, plan("lora", layout)).model_bytes
    assert plan("quantization-error", layout, measured, budget) == plan("lora", layout)
    assert plan("ilp", layout, measured, budget) == plan("lora", layout)


@pytest.mark.parametrize("seed", range(25))
def test_the_integer_program_finds_what_brute_force_finds(seed: int) -> None:
    rng = random.Random(seed)
    costs: dict[str, dict[int, tuple[int, float]]] = {}
    for module in range(rng.randrange(1, 7)):
        size, error = rng.randrange(100, 100_000), rng.random()
        costs[f"m{module}"] = {4: (size // 2, error), 8: (size, error / 13), 16: (2 * size, 0.0)}
    smallest, largest = (sum(of[bits][0] for of in costs.values()) for bits in (4, 16))
    budget = rng.randrange(smallest, largest + 1)

    def total(choice: tuple[int, ...], what: int) -> float:
        return sum(costs[name][bits][what] for name, bits in zip(costs, choice, strict=True))

    best = min(total(c, 1) for c in product((4, 8, 16), repeat=len(costs)) if total(c, 0) <= budget)
    found = least_errors(costs, budget)
    chosen = tuple(found[name] for name in costs)
    assert total(chosen, 0) <= budget
    assert total(chosen, 1) == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_integer_program_finds_what_highs_finds(seed: int) -> None:
    """SciPy's solver is the second library, on as many modules as a real model has."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(100, 100_000, 150)
    num_bytes = np.stack([sizes // 2, sizes, 2 * sizes], axis=1)  # (modules, choices)
    errors = rng.random(150)[:, None] * np.array([1.0, rng.random(), 0.0])
    budget = int(rng.integers(num_bytes[:, 0].sum(), num_bytes[:, 2].sum()))
    costs = {
        f"m{row}": {bits: (int(num_bytes[row, at]), errors[row, at]) for at, bits in enumerate((4, 8, 16))}
        for row in range(len(sizes))
    }
    solved = milp(
        errors.ravel(),
        integrality=np.ones(errors.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.kron(np.eye(len(sizes)), np.ones(3)), 1, 1),
            LinearConstraint(num_bytes.ravel()[None, :], ub=budget),
        ],
        options={"mip_rel_gap": 0.0},
    )
    found = least_errors(costs, budget)
    assert sum(costs[name][bits][0] for name, bits in found.items()) <= budget
    total = sum(costs[name][bits][1] for name, bits in found.items())
    assert total == pytest.approx(solved.fun, rel=1e-6, abs=1e-9)


def test_the_integer_program_says_when_nothing_fits() -> None:
    with pytest.raises(PlanError, match="no choice of bits has at most 9 bytes"):
        least_errors({"m": {4: (10, 1.0), 8: (20, 0.0)}}, 9)


@pytest.mark.parametrize("name", ["ilp", "ilp-fisher"])
def test_the_program_s_plan_has_the_least_error_of_all_plans(layout: ModelLayout, name: str) -> None:
    rng = random.Random(name)
    measured = sensitivities(
        layout,
        **{
            n.replace(".", "_"): {"weight": rng.random(), "fisher": rng.random()}
            for n in layout_names(layout)
        },
    )
    fixed_rank = replace(SETTINGS, rank=4, sensitivities=measured)
    made = plan(name, layout, fixed_rank)
    quantization = QuantizationSettings()

    def error(module: str, bits: int) -> float:
        found = measured.modules[module]
        lost = 0.0 if bits == 16 else found.weight_error[OF_BITS[bits]] ** 2
        return lost * (found.fisher if name == "ilp-fisher" else 1.0)

    small, large = (plan_cost(layout, plan(n, layout, fixed_rank)).model_bytes for n in ("qlora", "llm-int8"))
    specs = layout.modules
    room = (small + large) // 2 - small + sum(weight_bytes(s, "nf4", quantization) for s in specs)
    best = min(
        sum(error(s.name, b) for s, b in zip(specs, choice, strict=True))
        for choice in product((4, 8, 16), repeat=len(specs))
        if sum(weight_bytes(s, OF_BITS[b], quantization) for s, b in zip(specs, choice, strict=True)) <= room
    )
    assert sum(error(n, c.bits) for n, c in made.modules.items()) == pytest.approx(best)
    assert plan_cost(layout, made).model_bytes <= (small + large) // 2


def layout_names(layout: ModelLayout) -> list[str]:
    return [spec.name for spec in layout.modules]


def test_adalora_names_the_rank_that_it_is_to_end_with(layout: ModelLayout) -> None:
    for name, bits in (("adalora", 16), ("adalora-4bit", 4)):
        made = plan(name, layout)
        assert made.lora.variant == "adalora"
        assert made.ranks == dict.fromkeys(MODULES, 8)
        assert {choice.bits for choice in made.modules.values()} == {bits}
    measured = replace(SETTINGS, sensitivities=sensitivities(layout))
    assert plan("adalora-mixed", layout, measured).bits == plan("ilp", layout, measured).bits


def test_distilled_ranks_are_those_that_adalora_ended_with(layout: ModelLayout) -> None:
    ranks = dict.fromkeys(MODULES, 8) | {"layers.0.attn.q": 0, "layers.1.mlp.up": 16}
    made = plan("adalora-distilled", layout, replace(SETTINGS, distilled_ranks=ranks))
    assert made.ranks == {name: rank for name, rank in ranks.items() if rank}
    assert made.lora.variant == "lora"
    assert plan("adalora-4bit", layout).distilled(ranks) == made


def test_what_a_study_leaves_out_stays_out(
    layout: ModelLayout, configure: Callable[..., StudyConfig]
) -> None:
    config = configure(
        search_space={
            "exclude": ["layers.0.attn.*"],
            "overrides": [{"group": "embedding", "bits": [8]}, {"group": "layers.1.mlp", "ranks": [0]}],
            "ranks": [0, 4, 16],
        }
    )
    space = SearchSpace.build(layout, config.search_space)
    settings = StrategySettings.of(space, config.search_space)
    assert settings.rank == 4
    for name in ("qlora", "lora", "linear-decay", "complementary"):
        made = plan(name, layout, settings)
        assert made.modules["embed"].bits == 8
        assert {made.modules[f"layers.0.attn.{m}"].bits for m in "qo"} == {16}
        assert set(made.ranks) == {
            "layers.0.mlp.up",
            "layers.0.mlp.down",
            "layers.1.attn.q",
            "layers.1.attn.o",
        }
    assert StrategySettings.of(space, config.search_space, rank=3).rank == 3


def test_what_cannot_be_is_said(layout: ModelLayout) -> None:
    with pytest.raises(PlanError, match="got 'liner-decay'; did you mean 'linear-decay'"):
        strategy("liner-decay")
    with pytest.raises(PlanError, match="encoder-8bit-decoder-4bit: it needs an encoder and a decoder"):
        plan("encoder-8bit-decoder-4bit", layout)
    with pytest.raises(PlanError, match="cross-attention-8bit: it needs cross-attention"):
        plan("cross-attention-8bit", layout)
    with pytest.raises(PlanError, match="strategy ilp: it needs measured sensitivities"):
        plan("ilp", layout)
    with pytest.raises(PlanError, match=r"lack layers\.1\.mlp\.down"):
        measured = sensitivities(layout)
        del measured.modules["layers.1.mlp.down"]
        plan("ilp", layout, replace(SETTINGS, sensitivities=measured))
    with pytest.raises(PlanError, match="adalora-distilled: it needs the ranks of an AdaLoRA run"):
        plan("adalora-distilled", layout)
    smallest = plan_cost(layout, plan("qlora", layout, replace(SETTINGS, rank=0))).model_bytes
    for name in ("qlora", "linear-decay", "adalora-4bit"):
        assert plan_cost(layout, plan(name, layout, max_bytes=smallest)).trainable_parameters == 0
        with pytest.raises(PlanError, match=f"{smallest} bytes.*raise the budget or use fewer bits"):
            plan(name, layout, max_bytes=smallest - 1)
    with pytest.raises(PlanError, match=r"lora\.init: pissa needs bits among"):
        plan("qlora", layout, replace(SETTINGS, lora=LoraSettings(init="pissa")))


def test_a_search_can_start_with_every_plan_that_has_no_other_name() -> None:
    other = {"lora", "qlora", "llm-int8", "adalora", "adalora-4bit", "adalora-mixed"}
    for name in STRATEGIES:
        if name in other:
            with pytest.raises(ValidationError):
                SpaceSettings(enqueue=(name,))
        else:
            assert SpaceSettings(enqueue=(name,)).enqueue == (name,)


def test_every_strategy_says_what_it_does() -> None:
    descriptions = [made.description for made in STRATEGIES.values()]
    assert all(20 < len(text) < 120 and "arXiv" not in text for text in descriptions)


def test_no_module_has_a_higher_rank_than_its_smaller_side(layout: ModelLayout) -> None:
    """Bytes of ranks that are too high are those of the plan, whose ranks are capped."""
    bits = dict.fromkeys((spec.name for spec in layout.modules), 16)
    ranks = {spec.name: 1000 for spec in SETTINGS.adapted(layout)}
    made = SETTINGS.plan(layout, bits, ranks)
    assert made.ranks == {spec.name: min(spec.shape) for spec in SETTINGS.adapted(layout)}
    assert SETTINGS.bytes_of(layout, bits, ranks) == plan_cost(layout, made).model_bytes
    # two bytes a weight, four a weight of the adapter: rank (rows + columns)
    adapters = sum(4 * min(spec.shape) * sum(spec.shape) for spec in SETTINGS.adapted(layout))
    assert SETTINGS.bytes_of(layout, bits, ranks) - SETTINGS.bytes_of(layout, bits) == adapters
