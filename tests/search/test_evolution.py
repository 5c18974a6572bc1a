from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from jointsearch.front.pareto import is_on_front
from jointsearch.search.additive.options import Options
from jointsearch.search.evolution import best_first, mutated, neighbours

MakeOptions = Callable[..., Options]


def test_neighbours_are_all_plans_one_step_away(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 8, 16), ranks=(0, 4, 16), exclude=("embed", "layers.1.*"))
    plans = np.array(list(itertools.product(range(9), repeat=2)))
    chosen = np.array([4, 2])
    steps = np.abs(np.stack([plans // 3 - chosen // 3, plans % 3 - chosen % 3])).sum(axis=(0, 2))
    expected = {tuple(plan) for plan in plans[steps == 1].tolist()}
    found = neighbours(options, chosen)
    assert {tuple(plan) for plan in found.tolist()} == expected
    assert len(found) == len(expected) == 4 + 2


def test_a_mutant_is_near_and_another(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 8, 16), ranks=(0, 4, 16))
    rng = np.random.default_rng(0)
    start = np.array([0, 4, 4, 4, 4])
    moved = np.array([mutated(options, start, rng) for _ in range(500)])
    assert (moved != start).any(axis=1).all()
    # 1 of 5 groups on average, and one at least: 1 + (4/5)⁵
    assert abs((moved != start).sum(axis=1).mean() - (1 + 0.8**5)) < 0.1
    assert np.abs(moved // 3 - start // 3).max() == 1


def test_best_first_is_rank_then_crowding() -> None:
    points = np.array([[0, 4], [1, 2], [1.1, 1.9], [4, 0], [5, 5], [2, 4.0]])
    # 4 and 5 are dominated; of the front the ends come first, then the one with the most room around it:
    # (1, 2) has (1.1 - 0) / 4 + (4 - 1.9) / 4, (1.1, 1.9) has (4 - 1) / 4 + (2 - 0) / 4
    assert best_first(points).tolist() == [0, 3, 2, 1, 5, 4]
    assert is_on_front(points).tolist() == [True] * 4 + [False] * 2
