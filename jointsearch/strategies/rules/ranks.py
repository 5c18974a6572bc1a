"""Rules that share out rank, at one number of bits.

Each is given the mean rank, or a byte budget; with a budget the ranks keep their proportions and grow
until it is full.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import ModuleSensitivity
from jointsearch.strategies.ranks import (
    Weights,
    highest_uniform_rank,
    ranks_for,
    uniform_ranks,
)
from jointsearch.strategies.registry import rule
from jointsearch.strategies.settings import StrategySettings

HIGH, LOW = 1.5, 0.5
"""Of the mean: 12 and 4 for a mean rank of 8."""


@rule("qlora", bits=4, starts_search=False)
@rule("llm-int8", bits=8, starts_search=False)
@rule("lora", bits=16, starts_search=False)
@rule("uniform")
def uniform(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """One bits × rank everywhere: LoRA at 16 bits (Hu et al., arXiv 2106.09685), QLoRA at 4 (Dettmers et
    al., arXiv 2305.14314), LLM.int8() with adapters at 8 (Dettmers et al., arXiv 2208.07339).

    With a budget the rank is the highest that fits: the plan may end up to one rank of *all* modules
    below it, which is more than 1 % of a model of few parameters.
    """
    bits = settings.bits_of(layout, settings.bits)
    rank = settings.rank
    if max_bytes is not None:
        rank = highest_uniform_rank(layout, settings, bits, max_bytes)
    return settings.plan(layout, bits, uniform_ranks(layout, settings, rank))


@rule("linear-decay")
def linear_decay(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Rank falls linearly from the last block to the first, from 1.5 to 0.5 of the mean.

    The top blocks of a pretrained transformer change most in fine-tuning (AdaLoRA gives them the
    higher ranks: Zhang et al., arXiv 2303.10512, figure 3). Encoder and decoder fall each on its own.
    """
    return _shared_out(layout, settings, max_bytes, decaying_weights(layout, settings))


@rule("attention-first")
def attention_first(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Attention gets three times the rank of the feed-forward network (LoRA, section 7.1, adapts
    attention alone)."""
    return _by_part(layout, settings, max_bytes, (Part.ATTENTION, Part.CROSS_ATTENTION))


@rule("ffn-first")
def ffn_first(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The feed-forward network gets three times the rank of attention."""
    return _by_part(layout, settings, max_bytes, (Part.MLP,))


@rule("gradient", "sensitivities")
def gradient(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Rank in proportion to the norm of the adapter's gradient in a short probe with a uniform adapter."""
    return _by_measured(layout, settings, max_bytes, lambda found: found.gradient_norm)


@rule("movement", "sensitivities")
def movement(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Rank in proportion to how far the probe has moved each weight, ‖s B A‖ / ‖W‖."""
    return _by_measured(layout, settings, max_bytes, lambda found: found.movement)


@rule("fisher", "sensitivities")
def fisher(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Rank in proportion to the root of the mean empirical Fisher information of the weight."""
    return _by_measured(layout, settings, max_bytes, lambda found: found.fisher**0.5)


@rule("adalora-distilled", "adalora")
def adalora_distilled(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The ranks that AdaLoRA has ended with (Zhang et al., arXiv 2303.10512), as a plan of plain LoRA."""
    if settings.distilled_ranks is None:
        raise PlanError("it needs the ranks of an AdaLoRA run, but none were given")
    bits = settings.bits_of(layout, settings.bits)
    ranks = dict(settings.distilled_ranks)
    if max_bytes is not None:
        ranks = ranks_for(layout, settings, bits, {n: float(r) for n, r in ranks.items()}, max_bytes)
    return settings.plan(layout, bits, ranks)


def decaying_weights(layout: ModelLayout, settings: StrategySettings) -> dict[str, float]:
    """1.5 in the top block of each stack, 0.5 in its bottom block, 1 outside of blocks."""
    weights = {}
    adapted = settings.adapted(layout)
    for stack, members in groupby(adapted, key=attrgetter("stack")):
        specs = list(members)
        blocks = list(dict.fromkeys(spec.block for spec in specs))
        last = max(len(blocks) - 1, 1)
        for spec in specs:
            height = blocks.index(spec.block) / last if len(blocks) > 1 else 0.5
            weights[spec.name] = LOW + (HIGH - LOW) * height if stack else 1.0
    return weights


def _by_part(
    layout: ModelLayout, settings: StrategySettings, max_bytes: int | None, first: tuple[Part, ...]
) -> Plan:
    weights = {spec.name: HIGH if spec.part in first else LOW for spec in settings.adapted(layout)}
    return _shared_out(layout, settings, max_bytes, weights)


def _by_measured(
    layout: ModelLayout,
    settings: StrategySettings,
    max_bytes: int | None,
    measure: Callable[[ModuleSensitivity], float],
) -> Plan:
    weights = {spec.name: measure(settings.sensitivity_of(spec.name)) for spec in settings.adapted(layout)}
    return _shared_out(layout, settings, max_bytes, weights)


def _shared_out(
    layout: ModelLayout, settings: StrategySettings, max_bytes: int | None, weights: Weights
) -> Plan:
    bits = settings.bits_of(layout, settings.bits)
    return settings.plan(layout, bits, ranks_for(layout, settings, bits, weights, max_bytes))
