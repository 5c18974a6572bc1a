"""Gaussian processes for samplers that want one: the model, expected improvement, and where it is largest.

    EI(c) = E[max(c - y, 0)] = (c - m) Φ(z) + s φ(z),   z = (c - m) / s,   y ~ N(m, s²)

(Jones et al., J. Global Optimization 13, 1998, equation 15; here of what is minimized).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from jointsearch.search.additive.observed import key_of
from jointsearch.search.additive.options import Options
from jointsearch.search.evolution import mutated, neighbours

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Predict = Callable[[Floats], tuple[Floats, Floats]]
"""Rows of features to the means and standard deviations of their values."""

NUM_MUTANTS, NUM_RANDOM = 400, 100
NUM_CLIMBED, MAX_CLIMBS = 3, 50


def fit(design: Floats, values: Floats) -> Predict:
    """Matérn 5/2 with one length, and noise, by maximal likelihood.

    ``design``: (num_trials, num_features); ``values``: (num_trials,).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0) * Matern(length_scale=3.0, nu=2.5) + WhiteKernel(1e-3)
    model = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(design, values)

    def predict(rows: Floats) -> tuple[Floats, Floats]:
        mean, deviation = model.predict(rows, return_std=True)
        return mean, np.maximum(deviation, 1e-12)

    return predict


def expected_improvement(bounds: Floats | float, mean: Floats, deviation: Floats) -> Floats:
    """By how much values are expected to be below ``bounds``; shapes as they broadcast."""
    ahead = bounds - mean
    normal = ahead / deviation
    density = np.exp(-(normal**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(ahead * ndtr(normal) + deviation * density)


def best_new(
    options: Options,
    score: Callable[[Ints], Floats],
    starts: Ints,
    known: set[bytes],
    rng: np.random.Generator,
) -> Ints:
    """The plan of the highest score that is not known, as far as a climb finds it: (num_groups,).

    ``score``: of plans, (num_plans, num_groups). The climb goes by single steps from the best of the
    mutants of ``starts``, (num_starts, num_groups), and of random plans.
    """
    sizes = [len(entry.bytes) for entry in options.groups]
    drawn = [mutated(options, starts[rng.integers(len(starts))], rng) for _ in range(NUM_MUTANTS)]
    drawn += [rng.integers(sizes) for _ in range(NUM_RANDOM)]
    pool = _new(np.array(drawn), known)
    if not len(pool):
        return np.asarray(drawn[0])
    scores = score(pool)
    tops = [(float(scores[at]), pool[at]) for at in np.argsort(-scores, kind="stable")[:NUM_CLIMBED]]
    for number, (height, plan) in enumerate(tops):
        for _ in range(MAX_CLIMBS):
            around = _new(neighbours(options, plan), known)
            heights = score(around) if len(around) else np.array([-np.inf])
            if heights.max() <= height:
                break
            height, plan = float(heights.max()), around[int(np.argmax(heights))]
        tops[number] = height, plan
    return np.asarray(max(tops, key=lambda top: top[0])[1])


def _new(plans: Ints, known: set[bytes]) -> Ints:
    return plans[[key_of(plan) not in known for plan in plans]]
