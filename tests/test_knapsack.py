"""Exactness against brute force on small problems, and against HiGHS on a large one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag, csr_array

from jointsearch.errors import StudyError
from jointsearch.front.pareto import is_on_front
from jointsearch.knapsack import Knapsack

Groups = tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]


def random_groups(seed: int, *, decimals: int) -> Groups:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, rng.integers(1, 6))
    return (
        [rng.integers(0, 30, count) for count in counts],
        [rng.normal(size=count).round(decimals) for count in counts],
    )


def all_plans(groups: Groups) -> NDArray[np.float64]:
    """Bytes and value of every combination."""
    return np.array(
        [
            (
                sum(sizes[option] for sizes, option in zip(groups[0], chosen, strict=True)),
                sum(values[option] for values, option in zip(groups[1], chosen, strict=True)),
            )
            for chosen in itertools.product(*(range(len(sizes)) for sizes in groups[0]))
        ]
    )


@pytest.mark.parametrize("decimals", [1, 9])  # with one decimal many plans are equally good
@pytest.mark.parametrize("seed", range(40))
def test_the_optimum_is_that_of_all_plans(seed: int, decimals: int) -> None:
    groups = random_groups(seed, decimals=decimals)
    knapsack, plans = Knapsack.of(*groups), all_plans(groups)
    assert knapsack.min_bytes == plans[:, 0].min()
    for budget in range(int(plans[:, 0].min()), int(plans[:, 0].max()) + 2, 3):
        chosen = knapsack.solve(budget)
        best = plans[plans[:, 0] <= budget, 1].min()
        assert sum(v[o] for v, o in zip(groups[1], chosen, strict=True)) == pytest.approx(best, abs=1e-9)
        assert sum(s[o] for s, o in zip(groups[0], chosen, strict=True)) <= budget
    best_of_all = plans[plans[:, 1] <= plans[:, 1].min() + 1e-9]
    assert knapsack.max_useful_bytes == best_of_all[:, 0].min()


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_that_of_all_plans(seed: int) -> None:
    groups = random_groups(seed, decimals=9)
    plans = all_plans(groups)
    expected = np.unique(plans[is_on_front(plans.round(9))].round(9), axis=0)
    sizes, values = Knapsack.of(*groups).front()
    assert np.stack([sizes, values], axis=1) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_a_large_optimum_is_that_of_highs(share: float) -> None:
    rng = np.random.default_rng(5)
    num_groups, num_options = 60, 9
    sizes = np.sort(rng.integers(10_000, 90_000, (num_groups, num_options)), axis=1)
    values = -np.sort(rng.exponential(size=(num_groups, num_options)), axis=1)
    knapsack = Knapsack.of(list(sizes), list(values))
    budget = round(knapsack.min_bytes * (1 - share) + knapsack.max_useful_bytes * share)
    one_each = csr_array(block_diag([np.ones((1, num_options))] * num_groups))
    found = milp(
        values.ravel(),
        integrality=np.ones(sizes.size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(sizes.ravel()[None], ub=budget)],
        options={"mip_rel_gap": 0},
    )
    chosen = knapsack.solve(budget)
    assert knapsack.total_bytes(chosen) <= budget
    assert knapsack.total_value(chosen) == pytest.approx(found.fun, abs=1e-6)


def test_a_budget_below_the_smallest_plan_is_an_error() -> None:
    knapsack = Knapsack.of([np.array([5000, 9000]), np.array([2000])], [np.array([1.0, 0.0]), np.zeros(1)])
    with pytest.raises(
        StudyError, match=r"at least 7 kB in its groups, but the budget leaves them 6\.999 kB"
    ):
        knapsack.solve(6999)
    assert knapsack.solve(7000).tolist() == [0, 0]
