"""Rules that say which modules get more bits, by what they are for.

The mean rank is the one asked for; with a byte budget ranks grow, in their proportions, until it is full.
"""

from __future__ import annotations

from collections.abc import Mapping

from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.plan.plan import Plan
from jointsearch.strategies.ranks import Weights, equal_weights, ranks_for
from jointsearch.strategies.registry import rule
from jointsearch.strategies.rules.ranks import decaying_weights
from jointsearch.strategies.settings import StrategySettings


def has_cross_attention(layout: ModelLayout) -> bool:
    return any(spec.part is Part.CROSS_ATTENTION for spec in layout.modules)


def has_two_stacks(layout: ModelLayout) -> bool:
    """Whether there are an encoder and a decoder."""
    return {"encoder", "decoder"} <= {word for spec in layout.modules for word in spec.block.split(".")}


@rule("complementary")
def complementary(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Ranks by linear decay; where the rank is high 4 bits, where it is low 8: one makes up for the other."""
    return _aligned(layout, settings, max_bytes, high_rank_bits=4)


@rule("complementary-reversed")
def complementary_reversed(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Ranks by linear decay; where the rank is high 8 bits too, where it is low 4: one follows the other."""
    return _aligned(layout, settings, max_bytes, high_rank_bits=8)


@rule("sensitive-8bit")
def sensitive_8bit(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Embeddings and head at 8 bits, the rest at 4."""
    sensitive = (Part.EMBEDDING, Part.HEAD)
    bits = {spec.name: 8 if spec.part in sensitive else 4 for spec in layout.modules}
    return _at_bits(layout, settings, max_bytes, bits)


@rule("cross-attention-8bit", fits=has_cross_attention)
def cross_attention_8bit(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """Cross-attention at 8 bits, the rest at 4."""
    bits = {spec.name: 8 if spec.part is Part.CROSS_ATTENTION else 4 for spec in layout.modules}
    if not has_cross_attention(layout):
        raise PlanError(f"it needs cross-attention, but {layout.architecture} has none")
    return _at_bits(layout, settings, max_bytes, bits)


@rule("encoder-8bit-decoder-4bit", fits=has_two_stacks)
def encoder_8bit_decoder_4bit(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The encoder's blocks at 8 bits, the rest at 4."""
    return _by_stack(layout, settings, max_bytes, "encoder")


@rule("encoder-4bit-decoder-8bit", fits=has_two_stacks)
def encoder_4bit_decoder_8bit(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The decoder's blocks at 8 bits, the rest at 4."""
    return _by_stack(layout, settings, max_bytes, "decoder")


def _aligned(
    layout: ModelLayout, settings: StrategySettings, max_bytes: int | None, high_rank_bits: int
) -> Plan:
    weights = decaying_weights(layout, settings)
    low_rank_bits = 12 - high_rank_bits  # 8 for 4, 4 for 8
    # what has no adapter has the lowest rank of all
    bits = {
        spec.name: high_rank_bits if weights.get(spec.name, 0.0) >= 1 else low_rank_bits
        for spec in layout.modules
    }
    return _at_bits(layout, settings, max_bytes, bits, weights)


def _by_stack(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None, at_8_bits: str) -> Plan:
    if not has_two_stacks(layout):
        raise PlanError(f"it needs an encoder and a decoder, but {layout.architecture} does not have both")
    bits = {spec.name: 8 if at_8_bits in spec.block.split(".") else 4 for spec in layout.modules}
    return _at_bits(layout, settings, max_bytes, bits)


def _at_bits(
    layout: ModelLayout,
    settings: StrategySettings,
    max_bytes: int | None,
    wanted: Mapping[str, int],
    weights: Weights | None = None,
) -> Plan:
    bits = settings.bits_of(layout, wanted)
    weights = equal_weights(layout, settings) if weights is None else weights
    return settings.plan(layout, bits, ranks_for(layout, settings, bits, weights, max_bytes))
