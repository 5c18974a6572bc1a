"""The sweep over learning rates, on made-up losses of two plans."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from jointsearch.search.additive.observed import TrialReader
from jointsearch.search.additive.options import Options
from jointsearch.search.learning_rate import Sweep, SweepRun, as_trials, sweep

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
INF = math.inf


def swept(first: float = 1e-3, **losses: list[float]) -> tuple[float, list[tuple[str, float]]]:
    """The rate, and what was trained on the way."""
    asked: list[tuple[str, float]] = []

    def loss_of(plan: str, rate: float) -> float:
        asked.append((plan, rate))
        return losses[plan][RATES.index(rate)]

    return sweep(list(losses), RATES, first, loss_of), asked


def test_both_plans_walk_downhill_from_where_the_last_one_stood() -> None:
    rate, asked = swept(small=[9, 8, 7, 6, 5, 6], large=[9, 8, 7, 5, 4, 5])
    assert rate == 1e-2
    assert asked == [
        *(("small", rate) for rate in (1e-3, 3e-3, 1e-2, 3e-2)),
        *(("large", rate) for rate in (1e-2, 3e-2, 3e-3)),
    ]


def test_between_two_best_rates_the_least_loss_counts() -> None:
    # 1e-3: 0 + 3, 3e-3: 1 + 1, 1e-2: 4 + 0
    assert swept(small=[5, 4, 1, 2, 5, 6], large=[9, 9, 6, 4, 3, 5])[0] == 3e-3


def test_what_diverges_is_left_to_lower_rates() -> None:
    assert swept(small=[3, 2, INF, INF, INF, INF], large=[3, 3.5, INF, INF, INF, INF])[0] == 3e-4
    with pytest.raises(ValueError, match=r"large diverges at every learning rate down to 0\.0001"):
        swept(small=[3, 2, INF, INF, INF, INF], large=[INF] * 6)


def test_of_losses_with_one_valley_it_is_the_least_excess_of_all() -> None:
    chance = random.Random(0)
    for _ in range(200):
        losses = {plan: valley(chance) for plan in ("small", "large")}
        rate, asked = swept(first=chance.choice(RATES), **losses)
        excess = [sum(losses[plan][i] - min(losses[plan]) for plan in losses) for i in range(len(RATES))]
        assert excess[RATES.index(rate)] == pytest.approx(min(excess))
        assert len(asked) == len(set(asked))


def valley(chance: random.Random) -> list[float]:
    """Convex: the best of all rates is then between the plans' own."""
    bottom, left, right = chance.randrange(len(RATES)), chance.uniform(0.1, 2), chance.uniform(0.1, 2)
    return [(left if i < bottom else right) * (i - bottom) ** 2 for i in range(len(RATES))]


def test_a_person_is_told_of_edges_and_of_plans_that_differ() -> None:
    def found(rate: float, **losses: list[float | None]) -> list[str]:
        runs = tuple(
            SweepRun(plan=plan, learning_rate=RATES[i], loss=loss)
            for plan, given in losses.items()
            for i, loss in enumerate(given)
        )
        return Sweep(learning_rate=rate, runs=runs, rates=RATES).notes

    assert found(1e-3, small=[3, 2, 1, 2], large=[4, 3, 2, 4]) == []
    assert found(1e-3, small=[3, 2, 1, 2], large=[4, 1, 2, None]) == [
        "the best learning rate depends on the plan: 0.001 for small, 0.0003 for large; "
        "all are trained at 0.001"
    ]
    assert found(1e-4, small=[1, 2], large=[1, 2]) == [
        "the learning rate 0.0001 is at the edge of those that were tried"
    ]


def test_runs_of_a_sweep_are_observations_of_its_rates(make_options: Callable[..., Options]) -> None:
    options = make_options(bits=(4, 16), ranks=(0, 4), learning_rates=(1e-3, 1e-2, 1e-1))
    name = "uniform 4-bit rank 4"
    runs = [(name, 1e-3, 3.5), (name, 1e-2, 3.0), (name, 1e-1, None), ("no plan of the space", 1e-2, 1.0)]
    found = Sweep(runs=tuple(SweepRun(plan=plan, learning_rate=rate, loss=loss) for plan, rate, loss in runs))
    observed = TrialReader(options, 1).observations(as_trials(found, options.space, seed=5))
    assert observed.rates.tolist() == observed.plans.tolist() == [0, 1, 2]
    assert observed.values.tolist() == [
        3.5,
        3.0,
        4.0,
    ]  # diverged: 0.5 above the worst
    assert observed.seeds.tolist() == [0, 0, 0]
    row = options.features_of(options.space.plan(options.space.uniform("nf4", 4)))
    assert observed.design == pytest.approx(np.stack([row] * 3))
