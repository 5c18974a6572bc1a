from __future__ import annotations

import numpy as np
import pytest

from jointsearch.study.seed_offsets import seed_offsets


def test_of_plans_without_noise() -> None:
    plans, seeds = {"a": 2.0, "b": 1.5, "c": 1.8, "d": 1.2}, {0: 0.0, 1: 0.3, 2: -0.1}
    have = {"a": (0, 1), "b": (0, 2), "c": (0,), "d": (1, 2, 0)}
    values = [{seed: plans[plan] + seeds[seed] for seed in of} for plan, of in have.items()]
    assert seed_offsets(values) == pytest.approx(seeds)


def test_is_least_squares_over_plans_and_seeds() -> None:
    chance = np.random.default_rng(3)
    values = [{seed: chance.normal() for seed in range(4) if chance.random() < 0.6} for _ in range(12)]
    values.append({0: 1.0})
    found = seed_offsets(values)
    # the whole layout at once, a column for every plan and every seed
    pairs = [(plan, seed) for plan, by_seed in enumerate(values) for seed in by_seed]
    design = np.zeros((len(pairs), len(values) + 4))
    for row, (plan, seed) in enumerate(pairs):
        design[row, plan] = design[row, len(values) + seed] = 1
    whole, *_ = np.linalg.lstsq(design, [values[plan][seed] for plan, seed in pairs])
    by_seed = whole[len(values) :]
    reference = next(seed for seed, offset in found.items() if offset == 0)
    assert found == pytest.approx({seed: by_seed[seed] - by_seed[reference] for seed in range(4)})


@pytest.mark.parametrize(
    "values", [[], [{0: 1.0}, {0: 2.0}], [{0: 1.0, 1: 1.5}, {0: 2.0}], [{None: 1.0}, {0: 2.0}]]
)
def test_nothing_is_made_of_a_single_plan(values: list[dict[int | None, float]]) -> None:
    assert set(seed_offsets(values).values()) <= {0.0}


def test_a_seed_that_shares_no_plan_with_the_others_is_left_alone() -> None:
    found = seed_offsets([{0: 1.0, 1: 1.5}, {0: 2.0, 1: 2.5}, {7: 9.0}, {0: 3.0}])
    assert found == pytest.approx({0: 0.0, 1: 0.5, 7: 0.0})
