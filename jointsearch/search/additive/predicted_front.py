"""The exact front of the model, with credible bands, as plain data; and what further trials may gain.

The front is that of the posterior mean: at every budget the plan that the knapsack proves best. A band is
the interval that holds the plan's own quality (without a trial's noise) with probability ``CREDIBLE``,
if quality is as additive as the model says. A front that is far from all measured plans is chosen for
its looks, and worse than its bands as often as not; near what a search has measured they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri  # half a second less than scipy.stats

from jointsearch.errors import StudyError
from jointsearch.front.objectives import format_bytes
from jointsearch.front.pareto import hypervolume, is_on_front
from jointsearch.search.additive.budgets import even_budgets, sizes_and_values
from jointsearch.search.additive.horizon import Horizon
from jointsearch.search.additive.surrogate import Surrogate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CREDIBLE = 0.9
NUM_POINTS = 30
NUM_WORLDS = 32
"""Draws from the posterior in which a gain is counted."""
NUM_DRAWS = 512
"""Draws from the posterior whose quantiles are an effect's credible interval."""


@dataclass(frozen=True)
class PredictedPoint:
    """The plan that the model takes for the best at its bytes."""

    model_bytes: int
    quality: float
    """Posterior median, in the units of the study's quality."""
    low: float
    high: float
    """The ends of the credible band, ``low <= quality <= high``."""
    values: dict[str, int]
    """Its Optuna parameters: ``space.plan(values)`` is the plan."""


def predicted_front(
    surrogate: Surrogate, sign: int, num_points: int = NUM_POINTS, horizon: Horizon | None = None
) -> tuple[PredictedPoint, ...]:
    """By rising bytes, spread evenly along the front; ``sign``: of the quality, as in ``Objective``.

    ``horizon``: of longer runs than the search's trials.
    """
    effects = surrogate.effects
    if horizon is not None:
        effects = horizon.of_length(effects, horizon.factors()[:, 0])
    knapsack = sizes_and_values(surrogate, effects)
    solved = [knapsack.solve(int(budget)) for budget in even_budgets(knapsack, num_points)]
    return _points(surrogate, sign, np.unique(solved, axis=0), horizon)


def predicted_optimum(surrogate: Surrogate, sign: int, max_bytes: int) -> PredictedPoint:
    """The best plan of at most ``max_bytes``; raises ``StudyError`` where the space has none."""
    knapsack = sizes_and_values(surrogate, surrogate.effects)
    fixed_bytes = surrogate.options.fixed_bytes
    if max_bytes < fixed_bytes + knapsack.min_bytes:
        raise StudyError(
            f"a plan of the search space has at least {format_bytes(fixed_bytes + knapsack.min_bytes)}, "
            f"but got {format_bytes(max_bytes)}; allow more bytes"
        )
    return _points(surrogate, sign, knapsack.solve(max_bytes - fixed_bytes)[None])[0]


@dataclass(frozen=True)
class Effect:
    """What a group's bits or its rank are worth, all else as in one plan."""

    group: str
    knob: str
    """``bits`` or ``rank``"""
    lowest: int
    highest: int
    gain: float
    """How much better the quality is with the highest choice than with the lowest, in its units: the
    posterior mean."""
    low: float
    high: float
    """The ends of the credible interval, ``low <= gain <= high``."""
    model_bytes: int
    """What the highest choice weighs more than the lowest."""


def effects_at(surrogate: Surrogate, values: Mapping[str, int]) -> tuple[Effect, ...]:
    """The effect of every group's bits and rank at the plan of these Optuna parameters, the largest first.

    Differences of plans are taken within joint draws from the posterior, so that what they share cancels.
    """
    options = surrogate.options
    knobs, rows = [], []
    for group in options.space.groups:
        for knob, name, choices in (
            ("bits", group.format_parameter, group.bits),
            ("rank", group.rank_parameter, group.ranks),
        ):
            if len(choices) > 1:
                knobs.append((group.name, knob, choices))
                rows += [options.chosen({**values, name: end}) for end in (0, len(choices) - 1)]
    chosen = np.array(rows)
    sizes = options.model_bytes(chosen)
    drawn = surrogate.outcomes(options.design(chosen), np.random.default_rng(0), NUM_DRAWS)
    gains = drawn[0::2] - drawn[1::2]  # lower is better here, whatever the quality is
    low, high = np.quantile(gains, (0.5 - CREDIBLE / 2, 0.5 + CREDIBLE / 2), axis=1)
    found = [
        Effect(
            group,
            knob,
            choices[0],
            choices[-1],
            float(gains[row].mean()),
            float(low[row]),
            float(high[row]),
            int(sizes[2 * row + 1] - sizes[2 * row]),
        )
        for row, (group, knob, choices) in enumerate(knobs)
    ]
    return tuple(sorted(found, key=lambda effect: -effect.gain))


def _points(
    surrogate: Surrogate, sign: int, plans: Ints, horizon: Horizon | None = None
) -> tuple[PredictedPoint, ...]:
    options = surrogate.options
    sizes, design = options.model_bytes(plans), options.design(plans)
    if horizon is None:
        found = surrogate.intervals(design, float(ndtri(0.5 + CREDIBLE / 2)))
    else:
        found = horizon.predict(design, np.random.default_rng(0), (1 - CREDIBLE) / 2)
    median, best, worst = (sign * side for side in found)
    return tuple(
        PredictedPoint(
            int(sizes[row]),
            float(median[row]),
            float(min(best[row], worst[row])),
            float(max(best[row], worst[row])),
            options.params(plans[row], surrogate.best_rate),
        )
        for row in np.argsort(sizes, kind="stable")
    )


def expected_gain(
    surrogate: Surrogate,
    num_trials: int,
    rng: np.random.Generator,
    corner: tuple[float, float] | None = None,
) -> float:
    """The expected growth of the front's hypervolume by the next trials, as a share of what it is.

    The next trials are what Thompson sampling would propose; both they and the plans that are on the
    measured front are valued in the same draws from the posterior, so that luck is not counted as quality.
    The box ends at ``corner``, quality and bytes; by default at the worst that was measured of both.
    """
    options, observed = surrogate.options, surrogate.observed
    proposals = []
    for number, effects in enumerate(surrogate.draw(rng, num_trials).T):
        knapsack = sizes_and_values(surrogate, effects)
        budgets = even_budgets(knapsack, NUM_POINTS)
        proposals.append(knapsack.solve(int(budgets[(2 * number + 1) * NUM_POINTS // (2 * num_trials)])))
    chosen = np.array(proposals)
    points = np.stack([observed.values, observed.model_bytes], axis=1)
    front = is_on_front(points)
    design = np.concatenate([observed.design[front], options.design(chosen)])
    sizes = np.concatenate([observed.model_bytes[front], options.model_bytes(chosen)])
    num_front, reference = int(front.sum()), corner or points.max(axis=0) * (1 + 1e-9)
    before = after = 0.0
    for world in surrogate.outcomes(design, rng, NUM_WORLDS).T:
        valued = np.stack([world, sizes], axis=1)
        before += hypervolume(valued[:num_front], reference)
        after += hypervolume(valued, reference)
    return after / before - 1 if before > 0 else float("inf")
