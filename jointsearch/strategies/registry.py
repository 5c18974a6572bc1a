"""Strategies by name: what one is, and how a rule becomes one where it is written.

@rule("my-rule")
def my_rule(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    \"""What it does, in one sentence. Where it comes from.\"""
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from jointsearch.config.names import STRATEGIES
from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.strategies.settings import Bits, StrategySettings

__all__ = ["STRATEGIES", "Need", "Rule", "Strategy", "register_strategy", "rule", "strategy"]

Rule = Callable[[ModelLayout, StrategySettings, int | None], Plan]

Need = Literal["nothing", "sensitivities", "adalora"]
"""What has to be measured before the plan can be made: ``adalora`` is a run of AdaLoRA at 4 bits."""


def _everywhere(layout: ModelLayout) -> bool:
    return True


@dataclass(frozen=True)
class Strategy:
    """A rule with a name."""

    name: str
    rule: Rule
    needs: Need = "nothing"
    bits: Bits | None = None
    """The bits of every module, where the name says them."""
    fits: Callable[[ModelLayout], bool] = _everywhere
    """Whether a model has the parts that the rule is about."""
    starts_search: bool = True
    """Whether a search can start with its plan: not where that is a uniform one by another name, or needs
    another method than the search's."""

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


def register_strategy(entry: Strategy) -> Strategy:
    """Make a strategy known by its name, for ``search_space.enqueue`` and comparisons."""
    registered: Strategy = STRATEGIES.register(entry)
    return registered


def rule(
    name: str,
    needs: Need = "nothing",
    *,
    bits: Bits | None = None,
    fits: Callable[[ModelLayout], bool] = _everywhere,
    starts_search: bool = True,
) -> Callable[[Rule], Rule]:
    """Registers the rule under it as the strategy ``name``."""

    def registered(function: Rule) -> Rule:
        register_strategy(Strategy(name, function, needs, bits, fits, starts_search))
        return function

    return registered


def strategy(name: str) -> Strategy:
    """The strategy of that name; raises ``PlanError`` naming the nearest."""
    if name not in STRATEGIES:
        raise PlanError(STRATEGIES.problem(name))
    found: Strategy = STRATEGIES[name]
    return found
