"""What bits and ranks are worth in longer runs, on qualities that are made up by the model's own rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from jointsearch.plan.layout import ModelLayout
from jointsearch.search.additive.horizon import GROWTH, Horizon
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.prior import BITS
from jointsearch.search.additive.surrogate import Observations, Surrogate
from jointsearch.space import build_space

OWN = 60
GROWN = np.array([-0.3, 0.8])
"""g of bits and of ranks."""


@pytest.fixture
def options(configure: Callable[..., object], layout: ModelLayout) -> Options:
    config = configure(search_space={"ranks": [0, 2, 8], "bits": [4, 8, 16]})
    return Options.of(build_space(config, layout), layout)  # type: ignore[arg-type]


class World:
    """Effects that hold exactly; at ``steps`` bits and ranks are worth 1 + g log(steps / OWN) as much."""

    def __init__(self, options: Options, seed: int = 0) -> None:
        self.options = options
        self.rng = np.random.default_rng(seed)
        self.axis = Surrogate.fit(options, self._empty()).prior.axis
        self.effects = -self.rng.uniform(0.02, 0.1, len(self.axis)) * (self.axis < 2)

    def _empty(self) -> Observations:
        none = np.empty(0, dtype=np.int64)
        return Observations(np.empty((0, int(self.options.offsets[-1]))), np.empty(0), none, none, none, none)

    def observed(self, num: int, steps: int = OWN, level: float = 3.0, noise: float = 0.0) -> Observations:
        sizes = [len(entry.bytes) for entry in self.options.groups]
        chosen = np.stack([self.rng.integers(size, size=num) for size in sizes], axis=1)
        design = self.options.design(chosen)
        values = level + design @ (self.effects * self.factors(steps)) + noise * self.rng.standard_normal(num)
        numbers = np.arange(num, dtype=np.int64)
        sizes_of = self.options.model_bytes(chosen)
        return Observations(design, values, 0 * numbers, numbers, sizes_of, 0 * numbers + NO_RATE)

    def factors(self, steps: int) -> np.ndarray:
        growth = 1 + GROWN * np.log(steps / OWN)
        return np.where(self.axis == BITS, growth[0], growth[1])


@pytest.fixture
def world(options: Options) -> World:
    return World(options)


@pytest.fixture
def surrogate(world: World) -> Surrogate:
    return Surrogate.fit(world.options, world.observed(200, noise=1e-3))


def test_growth_is_found_from_runs_of_two_lengths(world: World, surrogate: Surrogate) -> None:
    finals = {length: world.observed(12, length, level) for length, level in ((240, 2.5), (960, 2.0))}
    horizon = Horizon.fit(surrogate, finals, OWN, 960)
    assert horizon.growth == pytest.approx(GROWN, abs=0.05)
    assert horizon.level == pytest.approx(2.0, abs=0.05)
    assert horizon.factors()[:, 0] == pytest.approx(1 + GROWN * np.log(16), abs=0.15)
    fresh = world.observed(50, 960, 2.0)
    mean, low, high = horizon.predict(fresh.design, np.random.default_rng(0), 0.05)
    assert np.abs(mean - fresh.values).max() < 0.1 * np.ptp(fresh.values)
    assert ((low <= fresh.values) & (fresh.values <= high)).mean() >= 0.9


def test_one_length_says_something_of_a_longer_one_with_more_doubt(
    world: World, surrogate: Surrogate
) -> None:
    finals = {240: world.observed(8, 240, 2.5)}
    near, far = (Horizon.fit(surrogate, finals, OWN, steps) for steps in (240, 960))
    assert far.growth == pytest.approx(GROWN, abs=0.1)
    assert far.level is None
    with pytest.raises(ValueError, match="no run of 960 steps"):
        far.predict(finals[240].design, np.random.default_rng(0), 0.05)
    spreads = [found.factors(np.random.default_rng(0), 2000).std(axis=1) for found in (near, far)]
    # no worth is below 0: of the two that can grow
    assert spreads[1][1] == pytest.approx(2 * spreads[0][1], rel=0.05)


def test_without_finals_all_is_worth_what_it_is_but_nobody_knows(surrogate: Surrogate) -> None:
    horizon = Horizon.fit(surrogate, {}, OWN, 240)
    assert horizon.factors()[:, 0].tolist() == [1.0, 1.0]
    drawn = (horizon.factors(np.random.default_rng(0), 4000) - 1) / np.log(4)
    assert np.quantile(drawn, 0.8413, axis=1) == pytest.approx([GROWTH] * 2, rel=0.1)  # one deviation up
    effects = surrogate.effects
    assert horizon.of_length(effects, np.array([1.0, 1.0])) == pytest.approx(effects)


def test_bits_and_ranks_are_turned_apart(surrogate: Surrogate) -> None:
    horizon = Horizon.fit(surrogate, {}, OWN, 240)
    effects = surrogate.effects
    turned = horizon.of_length(effects, np.array([0.5, 2.0]))
    is_bits = surrogate.prior.axis == BITS
    assert turned[is_bits] == pytest.approx(effects[is_bits] / 2)
    assert turned[~is_bits] == pytest.approx(effects[~is_bits] * 2)
