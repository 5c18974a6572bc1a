"""The knapsack on the real bytes of a space."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from jointsearch.knapsack import Knapsack
from jointsearch.search.additive.options import Options


def test_the_whole_space_by_brute_force(make_options: Callable[..., Options]) -> None:
    """Real bytes: the best plan at a budget among all 12 · 12 · 3 plans of one block."""
    options = make_options(exclude=("layers.1.*",))
    rng = np.random.default_rng(1)
    values = [entry.features @ -rng.exponential(size=entry.features.shape[1]) for entry in options.groups]
    knapsack = Knapsack.of([entry.bytes for entry in options.groups], values)
    plans = np.array(list(itertools.product(*(range(len(entry.bytes)) for entry in options.groups))))
    assert len(plans) == 3 * 12 * 12
    sizes = options.model_bytes(plans)
    totals = np.sum([values[group][plans[:, group]] for group in range(len(values))], axis=0)
    for budget in np.linspace(sizes.min(), sizes.max(), 25).astype(int):
        chosen = knapsack.solve(int(budget) - options.fixed_bytes)
        assert options.model_bytes(chosen) <= budget
        assert knapsack.total_value(chosen) == pytest.approx(totals[sizes <= budget].min(), abs=1e-12)
