from __future__ import annotations

import numpy as np
import pytest

from jointsearch.front.pareto import hypervolume
from jointsearch.search.samplers.gp_bytes import expected_growth


def test_the_expected_growth_is_that_of_drawn_fronts() -> None:
    sizes, losses = np.array([10, 20, 40]), np.array([3.0, 2.5, 2.0])
    largest = 60.0
    candidates, mean, deviation = np.array([15, 30, 45, 5]), np.array([2.6, 2.2, 2.1, 2.9]), np.full(4, 0.3)
    found = expected_growth(candidates, mean, deviation, sizes, np.array([20, 40, largest]), losses)
    # left of the smallest plan the front is at that plan's height
    corner = np.array([3.0, largest])
    front = np.stack([losses, sizes], axis=1)
    before = hypervolume(front, corner)
    rng = np.random.default_rng(0)
    for position, size in enumerate(candidates):
        drawn = mean[position] + 0.3 * rng.standard_normal(20_000)
        grown = [hypervolume([*front, (loss, size)], corner) - before for loss in drawn]
        assert found[position] == pytest.approx(np.mean(grown), rel=0.05)
