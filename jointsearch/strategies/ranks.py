"""Ranks in given proportions: at a mean rank, or as high as a byte budget allows.

Both round by largest remainders: t is such that the fractional ranks t w_m meet the total, r_m = ⌊t w_m⌋,
and the modules whose t w_m loses most get one more until the total is met. No rank is above the smaller
side of its module, where a higher one could add nothing (Hu et al., LoRA, arXiv 2106.09685, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jointsearch.plan.cost import adapter_element_bytes, adapter_parameters
from jointsearch.plan.layout import ModelLayout
from jointsearch.strategies.settings import Bits, StrategySettings, too_small

Weights = Mapping[str, float]
"""How much rank each module deserves beside the others; only proportions count."""


def equal_weights(layout: ModelLayout, settings: StrategySettings) -> dict[str, float]:
    return {spec.name: 1.0 for spec in settings.adapted(layout)}


def ranks_for(
    layout: ModelLayout,
    settings: StrategySettings,
    bits: Mapping[str, Bits],
    weights: Weights,
    max_bytes: int | None,
) -> dict[str, int]:
    """Ranks in the proportions of ``weights``: at the mean asked for, or all that the budget can hold.

    With a budget the plan ends less than one rank of one module below it, unless every rank is at its
    highest. Raises ``PlanError`` where the budget does not even hold the bits.
    """
    if max_bytes is None:
        return ranks_at_mean(layout, settings, weights)
    return ranks_within(layout, settings, bits, weights, max_bytes)


def ranks_at_mean(layout: ModelLayout, settings: StrategySettings, weights: Weights) -> dict[str, int]:
    """Ranks whose mean over the adapted modules is ``settings.rank``."""
    caps = _caps(layout, settings)
    total = min(settings.rank * len(caps), sum(caps[name] for name, w in weights.items() if w > 0))
    scale = _largest_scale(lambda t: sum(_fractional(t, weights, caps).values()) <= total)
    ranks = _floors(scale, weights, caps)
    for name in _by_remainder(scale, weights, caps):
        if sum(ranks.values()) < total and ranks[name] < caps[name]:
            ranks[name] += 1
    return ranks


def ranks_within(
    layout: ModelLayout,
    settings: StrategySettings,
    bits: Mapping[str, Bits],
    weights: Weights,
    max_bytes: int,
) -> dict[str, int]:
    """The highest ranks that keep the plan within ``max_bytes``."""
    caps = _caps(layout, settings)
    element_bytes = adapter_element_bytes(settings.lora)
    specs = {spec.name: spec for spec in settings.adapted(layout)}

    def adapter_bytes(name: str, rank: int) -> int:
        parameters = adapter_parameters(specs[name], rank, settings.lora)
        return element_bytes * (parameters - adapter_parameters(specs[name], 0, settings.lora))

    base_bytes = settings.bytes_of(layout, bits)
    if base_bytes > max_bytes:
        raise too_small(max_bytes, base_bytes)
    room = max_bytes - base_bytes
    per_rank = {name: adapter_bytes(name, 2) - adapter_bytes(name, 1) for name in caps}
    # DoRA's norms are there from the first rank on
    once = sum(adapter_bytes(name, 1) - per_rank[name] for name in caps)
    scale = _largest_scale(
        lambda t: sum(per_rank[n] * rank for n, rank in _fractional(t, weights, caps).items()) <= room - once
    )
    ranks = _floors(scale, weights, caps)
    room -= sum(adapter_bytes(name, rank) for name, rank in ranks.items())
    order = _by_remainder(scale, weights, caps)
    added = True
    while added:
        added = False
        for name in order:
            more = adapter_bytes(name, ranks[name] + 1) - adapter_bytes(name, ranks[name])
            if ranks[name] < caps[name] and more <= room:
                ranks[name] += 1
                room -= more
                added = True
    return ranks


def highest_uniform_rank(
    layout: ModelLayout, settings: StrategySettings, bits: Mapping[str, Bits], max_bytes: int
) -> int:
    """The highest rank that all adapters can have within ``max_bytes``."""
    caps = _caps(layout, settings)

    def fits(rank: int) -> bool:
        ranks = {name: min(rank, cap) for name, cap in caps.items()}
        return settings.bytes_of(layout, bits, ranks) <= max_bytes

    if not fits(0):
        raise too_small(max_bytes, settings.bytes_of(layout, bits))
    low, high = 0, max(caps.values(), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def uniform_ranks(layout: ModelLayout, settings: StrategySettings, rank: int) -> dict[str, int]:
    """One rank everywhere, where the modules are that wide."""
    return {name: min(rank, cap) for name, cap in _caps(layout, settings).items()}


def _caps(layout: ModelLayout, settings: StrategySettings) -> dict[str, int]:
    return {spec.name: min(spec.shape) for spec in settings.adapted(layout)}


def _fractional(scale: float, weights: Weights, caps: Mapping[str, int]) -> dict[str, float]:
    return {name: min(cap, scale * weights.get(name, 0.0)) for name, cap in caps.items()}


def _floors(scale: float, weights: Weights, caps: Mapping[str, int]) -> dict[str, int]:
    # the small addition keeps 3 · (1/3) at 1
    return {name: int(rank + 1e-9) for name, rank in _fractional(scale, weights, caps).items()}


def _by_remainder(scale: float, weights: Weights, caps: Mapping[str, int]) -> list[str]:
    """Modules that may get one rank more, those that rounding took most from first."""
    wanted = {name: scale * weights.get(name, 0.0) for name in caps}
    candidates = [name for name in caps if weights.get(name, 0.0) > 0]
    return sorted(candidates, key=lambda name: -((wanted[name] + 1e-9) % 1))


def _largest_scale(fits: Callable[[float], bool]) -> float:
    """The largest t for which ``fits`` holds, which it does up to there and not beyond, or a huge one."""
    low, high = 0.0, 1.0
    while fits(high) and high < 2.0**40:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
