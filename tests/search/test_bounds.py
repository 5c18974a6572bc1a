"""No sampler proposes a plan beyond a study's limits."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest

from jointsearch.config.names import SAMPLERS
from jointsearch.config.search import SearchSettings
from jointsearch.config.space import SpaceSettings
from jointsearch.knapsack import Knapsack
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.limits import Limits
from jointsearch.search.samplers import build_sampler, distributions
from jointsearch.space import SearchSpace


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_proposal_fits(name: str, layout: ModelLayout) -> None:
    space = SearchSpace.build(layout, SpaceSettings(ranks=(0, 2, 8)))
    small, large = (
        plan_cost(layout, space.plan(space.uniform(weights, rank))).model_bytes
        for weights, rank in (("nf4", 0), ("16bit", 8))
    )
    limit = small + (large - small) // 5
    limits = Limits(layout, max_model_bytes=limit)
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.sampler = build_sampler(
        SearchSettings(sampler=name, trials=14), space, layout, "loss", limits=limits
    )
    sizes = []
    for number in range(14):
        trial = study.ask(dict(distributions(space)))
        sizes.append(plan_cost(layout, space.plan(trial.params)).model_bytes)
        study.tell(trial, [3.0 - 0.01 * number, sizes[-1]])
    assert max(sizes) <= limit
    assert len(set(sizes)) > 5


def test_the_knapsack_keeps_two_limits() -> None:
    rng = np.random.default_rng(0)
    sizes = [rng.integers(1, 30, 4) for _ in range(5)]
    others = [rng.integers(-30, 30, 4) for _ in range(5)]
    values = [rng.normal(size=4) for _ in range(5)]
    best = {}
    for limit in (-20, 10, 40):
        knapsack = Knapsack.of(sizes, values).at_most(60).also_within(others, limit)
        chosen = knapsack.solve(10**6)
        plans = [
            plan
            for plan in itertools.product(range(4), repeat=5)
            if sum(s[o] for s, o in zip(sizes, plan, strict=True)) <= 60
            and sum(s[o] for s, o in zip(others, plan, strict=True)) <= limit
        ]
        assert tuple(chosen.tolist()) in plans
        best[limit] = min(sum(v[o] for v, o in zip(values, plan, strict=True)) for plan in plans)
        # the relaxation leaves a gap of at most one group's change
        assert knapsack.total_value(chosen) <= best[limit] + max(np.ptp(v) for v in values)
