"""AdaLoRA: ranks that adapt while they train (Zhang et al., arXiv 2303.10512).

A plan names the rank that AdaLoRA is to end with on average, the same on every module; it starts with one
and a half times as many (the paper's b(0) = 1.5 b(T), section 4.1) and prunes the least important. Which
modules keep theirs, and so the exact bytes, is known at the end: the measurement has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.strategies.ranks import highest_uniform_rank, uniform_ranks
from jointsearch.strategies.registry import rule
from jointsearch.strategies.rules.errors import ilp
from jointsearch.strategies.settings import Bits, StrategySettings


@rule("adalora-4bit", bits=4, starts_search=False)
@rule("adalora", bits=16, starts_search=False)
def adalora(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """AdaLoRA at one number of bits."""
    return _adaptive(layout, settings, settings.bits_of(layout, settings.bits), max_bytes)


@rule("adalora-mixed", "sensitivities", starts_search=False)
def adalora_mixed(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """AdaLoRA on the bits that ``ilp`` chooses."""
    plan = ilp(layout, settings, max_bytes)
    return _adaptive(layout, settings, {name: c.bits for name, c in plan.modules.items()}, max_bytes)


def _adaptive(
    layout: ModelLayout, settings: StrategySettings, bits: Mapping[str, Bits], max_bytes: int | None
) -> Plan:
    # no other start: AdaLoRA has its own
    lora = settings.lora.model_copy(update={"variant": "adalora", "init": "default"})
    settings = replace(settings, lora=lora)
    rank = settings.rank
    if max_bytes is not None:
        rank = highest_uniform_rank(layout, settings, bits, max_bytes)
    # PEFT starts all modules with one rank: that of the narrowest is the highest that serves all
    rank = min([rank, *(min(spec.shape) for spec in settings.adapted(layout))])
    return settings.plan(layout, bits, uniform_ranks(layout, settings, rank))
