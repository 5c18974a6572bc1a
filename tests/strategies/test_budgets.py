"""Byte budgets on the layouts of real models, read from their configs without weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import transformers as hf

from jointsearch.config.study import ModelSettings
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.testing import FakeRunner
from jointsearch.training.model.architecture import read_layout

MODELS: dict[str, tuple[str, Any]] = {
    "gpt2": ("causal-lm", lambda: hf.GPT2Config()),
    "llama-1b": (
        "causal-lm",
        lambda: hf.LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        ),
    ),
    "qwen2-0.5b": (
        "causal-lm",
        lambda: hf.Qwen2Config(
            vocab_size=151936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        ),
    ),
    "bert": ("sequence-classification", lambda: hf.BertConfig()),
    "t5-small": ("seq2seq-lm", lambda: hf.T5Config(decoder_start_token_id=0)),
}
WHOLE_RANKS = ("uniform", "lora", "qlora", "llm-int8", "adalora", "adalora-4bit", "adalora-mixed")
"""One rank for all modules: the next one may be more than 1 % away."""


@pytest.fixture(scope="module", params=MODELS)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelLayout:
    task, config = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    made = config()
    made.save_pretrained(folder)
    return read_layout(ModelSettings(id=str(folder), dtype="bfloat16"), task)


def settings_for(layout: ModelLayout) -> StrategySettings:
    settings = StrategySettings(rank=8, sensitivities=FakeRunner().sensitivities(layout, 8))
    ranks = {spec.name: (5 * position) % 17 for position, spec in enumerate(settings.adapted(layout))}
    return replace(settings, distilled_ranks=ranks)


@pytest.mark.parametrize("share", [1.02, 1.1, 1.5])
def test_every_strategy_ends_within_1_percent_below_its_budget(real: ModelLayout, share: float) -> None:
    settings = settings_for(real)
    tried = [made for made in STRATEGIES.values() if made.fits(real)]
    assert len(tried) >= 20
    for made in tried:
        budget = int(plan_cost(real, made.plan(real, settings)).model_bytes * share)
        plan = made.plan(real, settings, budget)
        size = plan_cost(real, plan).model_bytes
        assert size <= budget, made.name
        narrowest = min(min(spec.shape) for spec in settings.adapted(real))
        if made.name.startswith("adalora") and set(plan.ranks.values()) == {narrowest}:
            continue  # as high as it can be
        if made.name in WHOLE_RANKS:
            assert plan_cost(real, one_rank_more(real, plan)).model_bytes > budget, made.name
        else:
            assert size > 0.99 * budget, made.name


def one_rank_more(layout: ModelLayout, plan: Plan) -> Plan:
    rank = max(plan.ranks.values()) + 1
    modules = {
        spec.name: choice.model_copy(update={"rank": rank}) if spec.adaptable else choice
        for spec, choice in ((layout[name], choice) for name, choice in plan.modules.items())
    }
    return plan.model_copy(update={"modules": modules})


def test_one_rank_of_all_modules_is_within_1_percent_where_models_are_large(real: ModelLayout) -> None:
    """What uniform plans can miss a budget by: at most 1 % at these sizes, at 4 bits."""
    rank_1 = plan_cost(real, STRATEGIES["qlora"].plan(real, StrategySettings(rank=1)))
    rank_0 = plan_cost(real, STRATEGIES["qlora"].plan(real, StrategySettings(rank=0)))
    assert (rank_1.model_bytes - rank_0.model_bytes) / rank_0.model_bytes < 0.012


@pytest.mark.parametrize("variant", ["dora", "rslora"])
def test_variants_and_types_of_adapters_count(real: ModelLayout, variant: Any) -> None:
    lora = LoraSettings(variant=variant, dtype="bfloat16")
    settings = replace(settings_for(real), lora=lora)
    for name in ("linear-decay", "ilp", "sensitive-8bit"):
        budget = int(plan_cost(real, STRATEGIES[name].plan(real, settings)).model_bytes * 1.07)
        size = plan_cost(real, STRATEGIES[name].plan(real, settings, budget)).model_bytes
        assert 0.99 * budget < size <= budget


def test_a_budget_above_every_rank_is_not_reached(real: ModelLayout) -> None:
    """No rank is above its module's smaller side: there the space of plans ends."""
    settings = settings_for(real)
    plan = STRATEGIES["linear-decay"].plan(real, settings, 10**13)
    assert plan.ranks == {spec.name: min(spec.shape) for spec in settings.adapted(real)}
