from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from jointsearch.search.additive.observed import key_of
from jointsearch.search.additive.options import Options
from jointsearch.search.evolution import neighbours
from jointsearch.search.gaussian_process import best_new, expected_improvement, fit

MakeOptions = Callable[..., Options]


def test_expected_improvement_is_the_mean_over_draws() -> None:
    mean, deviation = np.array([1.0, 2.0, 0.2]), np.array([0.5, 1.0, 0.01])
    draws = mean + deviation * np.random.default_rng(0).standard_normal((400_000, 3))
    expected = np.maximum(1.2 - draws, 0).mean(axis=0)
    assert expected_improvement(1.2, mean, deviation) == pytest.approx(expected, rel=0.01)


def test_the_process_meets_what_it_has_seen() -> None:
    rng = np.random.default_rng(1)
    design = rng.random((40, 3))
    values = 5 + design @ [1.0, -2.0, 0.5]
    mean, deviation = fit(design, values)(design)
    assert mean == pytest.approx(values, abs=0.02)
    far, unsure = fit(design, values)(design + 20)
    assert (unsure > 5 * deviation).all()
    assert np.isfinite(far).all()


def test_the_climb_ends_at_the_best_plan(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 8, 16), ranks=(0, 4, 16))
    weights = np.random.default_rng(2).random((5, 9)).cumsum(axis=1)  # rising, so that every climb ends there
    plans = np.array(list(itertools.product(*(range(len(entry.bytes)) for entry in options.groups))))

    def score(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        return weights[np.arange(5), chosen].sum(axis=1)

    best = plans[np.argmax(score(plans))]
    found = best_new(options, score, plans[:1], set(), np.random.default_rng(0))
    assert found.tolist() == best.tolist()
    again = best_new(options, score, plans[:1], {key_of(best)}, np.random.default_rng(0))
    assert again.tolist() in neighbours(options, best).tolist()  # no climb leads over what is known
