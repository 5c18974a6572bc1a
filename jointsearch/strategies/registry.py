"""All strategies by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from jointsearch.errors import PlanError, nearest
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.strategies import adaptive, bits_rules, error_rules, rank_rules
from jointsearch.strategies.settings import Bits, StrategySettings

Rule = Callable[[ModelLayout, StrategySettings, int | None], Plan]

Need = Literal["nothing", "sensitivities", "adalora"]
"""What has to be measured before the plan can be made: ``adalora`` is a run of AdaLoRA at 4 bits."""


@dataclass(frozen=True)
class Strategy:
    """A rule with a name."""

    name: str
    rule: Rule
    needs: Need = "nothing"
    bits: Bits | None = None
    """The bits of every module, where the name says them."""
    fits: Callable[[ModelLayout], bool] = lambda layout: True
    """Whether a model has the parts that the rule is about."""

    def plan(self, layout: ModelLayout, settings: StrategySettings, max_bytes: int | None = None) -> Plan:
        """The plan for a model, at most ``max_bytes`` large where they are given; raises ``PlanError``."""
        if self.bits is not None:
            settings = replace(settings, bits=self.bits)
        try:
            return self.rule(layout, settings, max_bytes)
        except PlanError as error:
            raise PlanError(f"strategy {self.name}: {error}") from None

    @property
    def description(self) -> str:
        """The beginning of the rule's docstring, without its source."""
        return re.split(r"\. |: | \(|\.$", " ".join((self.rule.__doc__ or "").split()))[0]


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("uniform", rank_rules.uniform),
        Strategy("lora", rank_rules.uniform, bits=16),
        Strategy("llm-int8", rank_rules.uniform, bits=8),
        Strategy("qlora", rank_rules.uniform, bits=4),
        Strategy("linear-decay", rank_rules.linear_decay),
        Strategy("attention-first", rank_rules.attention_first),
        Strategy("ffn-first", rank_rules.ffn_first),
        Strategy("gradient", rank_rules.gradient, "sensitivities"),
        Strategy("movement", rank_rules.movement, "sensitivities"),
        Strategy("fisher", rank_rules.fisher, "sensitivities"),
        Strategy("complementary", bits_rules.complementary),
        Strategy("complementary-reversed", bits_rules.complementary_reversed),
        Strategy("sensitive-8bit", bits_rules.sensitive_8bit),
        Strategy(
            "cross-attention-8bit", bits_rules.cross_attention_8bit, fits=bits_rules.has_cross_attention
        ),
        Strategy(
            "encoder-8bit-decoder-4bit", bits_rules.encoder_8bit_decoder_4bit, fits=bits_rules.has_two_stacks
        ),
        Strategy(
            "encoder-4bit-decoder-8bit", bits_rules.encoder_4bit_decoder_8bit, fits=bits_rules.has_two_stacks
        ),
        Strategy("quantization-error", error_rules.quantization_error, "sensitivities"),
        Strategy("output-error", error_rules.output_error, "sensitivities"),
        Strategy("ilp", error_rules.ilp, "sensitivities"),
        Strategy("ilp-fisher", error_rules.ilp_fisher, "sensitivities"),
        Strategy("adalora", adaptive.adalora, bits=16),
        Strategy("adalora-4bit", adaptive.adalora, bits=4),
        Strategy("adalora-mixed", adaptive.adalora_mixed, "sensitivities"),
        Strategy("adalora-distilled", rank_rules.adalora_distilled, "adalora"),
    )
}


def strategy(name: str) -> Strategy:
    """The strategy of that name; raises ``PlanError`` naming the nearest."""
    if name not in STRATEGIES:
        raise PlanError(
            f"a strategy must be one of {', '.join(STRATEGIES)}, but got '{name}'{nearest(name, STRATEGIES)}"
        )
    return STRATEGIES[name]
