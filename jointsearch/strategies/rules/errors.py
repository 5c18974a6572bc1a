"""Rules that spend bytes on the modules that quantization hurts most, as measured.

All start from the rank asked for and the fewest bits everywhere. Without a budget it is halfway between
the uniform plans of 4 and of 8 bits, and the rank stays. With one, what is left below the next module's
bits goes to ranks; and where even the fewest bits leave no room for the rank asked for, rank gives way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import ModuleSensitivity
from jointsearch.strategies.ranks import equal_weights, ranks_within, uniform_ranks
from jointsearch.strategies.registry import rule
from jointsearch.strategies.settings import Bits, StrategySettings

Costs = Mapping[str, Mapping[Bits, tuple[int, float]]]
"""Bytes and error by module and bits."""

Error = Callable[[ModuleSensitivity, str], float]
"""What a module loses in a format."""


@rule("quantization-error", "sensitivities")
def quantization_error(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The modules with the largest relative error of their weights get 8 bits, then 16, up to the budget.

    AQLoRA's rule (arXiv 2608.23816), in the manner of HAWQ (Dong et al., arXiv 1905.03696), which ranks
    layers by sensitivity: modules by falling ‖W - Q(W)‖ / ‖W‖, those that do not fit passed over.
    """
    return _largest_first(layout, settings, max_bytes, lambda found, name: found.weight_error.get(name, 0.0))


@rule("output-error", "sensitivities")
def output_error(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The modules with the largest relative error of their outputs get 8 bits, then 16, up to the budget: as
    ``quantization_error``, but on calibration data."""
    return _largest_first(layout, settings, max_bytes, lambda found, name: found.output_error.get(name, 0.0))


@rule("ilp", "sensitivities")
def ilp(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The bits of least squared error Σ ‖W - Q(W)‖² under the budget.

    LQ-LoRA's integer program (Guo et al., arXiv 2311.12023, section 3.3) without its low-rank step: there
    the error is that of Q and the adapter together, W - (Q + L₁L₂); here it is quantization's alone.
    """
    return _by_program(layout, settings, max_bytes, lambda found, name: found.squared_error(name))


@rule("ilp-fisher", "sensitivities")
def ilp_fisher(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The bits of least squared error under the budget, weighted by Fisher information (as ``ilp``; LQ-LoRA,
    section 3.4, weights elements, here all elements of a module have its mean)."""
    return _by_program(
        layout, settings, max_bytes, lambda found, name: found.fisher * found.squared_error(name)
    )


def _largest_first(
    layout: ModelLayout, settings: StrategySettings, max_bytes: int | None, error: Error
) -> Plan:
    budget = _budget(layout, settings, max_bytes)
    ranks = uniform_ranks(layout, settings, settings.rank)
    bits = settings.bits_of(layout, 4)
    for wanted in (8, 16):
        better = settings.bits_of(layout, wanted)
        open_to_more = [spec.name for spec in layout.modules if better[spec.name] > bits[spec.name]]
        lost = {
            name: error(settings.sensitivity_of(name), settings.format_of(layout[name], bits[name]))
            for name in open_to_more
        }
        for name in sorted(open_to_more, key=lambda n: -lost[n]):
            more = {**bits, name: better[name]}
            if settings.bytes_of(layout, more, ranks) <= budget:
                bits = more
    return _filled(layout, settings, max_bytes, bits, ranks)


def _by_program(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None, error: Error) -> Plan:
    ranks = uniform_ranks(layout, settings, settings.rank)
    fewest = settings.bits_of(layout, 4)
    room = _budget(layout, settings, max_bytes) - settings.bytes_of(layout, fewest, ranks)
    costs: dict[str, dict[Bits, tuple[int, float]]] = {}
    for spec in layout.modules:
        choices = settings.choices_of(spec)
        if len(choices) > 1:
            found = settings.sensitivity_of(spec.name)
            smallest = settings.weight_bytes(spec, fewest[spec.name])
            costs[spec.name] = {
                bits: (
                    settings.weight_bytes(spec, bits) - smallest,
                    error(found, settings.format_of(spec, bits)),
                )
                for bits in choices
            }
    bits = {**fewest, **(least_errors(costs, room) if room > 0 else {})}
    return _filled(layout, settings, max_bytes, bits, ranks)


def least_errors(costs: Costs, max_bytes: int) -> dict[str, Bits]:
    """The bits by module whose errors have the least sum; raises ``PlanError`` where no choice fits.

    minimize    Σ_m Σ_b error_{m,b} x_{m,b}
    subject to  Σ_b x_{m,b} = 1 for every module m,   Σ_m Σ_b bytes_{m,b} x_{m,b} ≤ max_bytes,   x ∈ {0, 1}
    """
    import numpy as np  # here, because a study file that names a strategy is read without it

    from jointsearch.knapsack import Knapsack

    if not costs:
        return {}
    choices = [list(of_module.items()) for of_module in costs.values()]
    knapsack = Knapsack.of(
        [np.array([num_bytes for _, (num_bytes, _) in options]) for options in choices],
        [np.array([error for _, (_, error) in options]) for options in choices],
    )
    if knapsack.min_bytes > max_bytes:
        raise PlanError(f"no choice of bits has at most {max_bytes} bytes; raise the budget")
    chosen = zip(costs, choices, knapsack.solve(max_bytes), strict=True)
    return {name: options[position][0] for name, options, position in chosen}


def _budget(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> int:
    if max_bytes is not None:
        return max_bytes
    ranks = uniform_ranks(layout, settings, settings.rank)
    ends = (settings.bytes_of(layout, settings.bits_of(layout, bits), ranks) for bits in (4, 8))
    return sum(ends) // 2


def _filled(
    layout: ModelLayout,
    settings: StrategySettings,
    max_bytes: int | None,
    bits: Mapping[str, Bits],
    ranks: Mapping[str, int],
) -> Plan:
    if max_bytes is not None:
        ranks = ranks_within(layout, settings, bits, equal_weights(layout, settings), max_bytes)
    return settings.plan(layout, bits, ranks)
