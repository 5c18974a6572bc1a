"""What trials share beside their plans' effects: the mean μ, what a seed adds, and what a learning rate adds.

All in squared units of the link (``jointsearch.search.additive.surrogate``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INTERCEPT_VARIANCE, SEED_VARIANCE, RATE_VARIANCE = 100.0, 1.0, 1.0
OWN_SEED, NO_RATE = 0, -1
"""The study's own seed, and a plan of a study that searches no learning rates: neither adds anything."""


def offset_covariance(seeds: Ints, rates: Ints) -> Floats:
    """Prior covariance of trials by what they share, (num_trials, num_trials), from codes, (num_trials,)."""
    same_seed = (seeds[:, None] == seeds[None, :]) & (seeds[:, None] != OWN_SEED)
    same_rate = (rates[:, None] == rates[None, :]) & (rates[:, None] != NO_RATE)
    return np.asarray(INTERCEPT_VARIANCE + SEED_VARIANCE * same_seed + RATE_VARIANCE * same_rate)


def draw_offsets(seeds: Ints, rates: Ints, rng: np.random.Generator, num: int) -> Floats:
    """(num_trials, num): draws from that prior."""
    mean = np.sqrt(INTERCEPT_VARIANCE) * rng.standard_normal((1, num))
    drawn = np.asarray(mean + _drawn(seeds, OWN_SEED, SEED_VARIANCE, rng, num))
    if (rates != NO_RATE).any():
        drawn = drawn + _drawn(rates, NO_RATE, RATE_VARIANCE, rng, num)
    return drawn


def _drawn(codes: Ints, without: int, variance: float, rng: np.random.Generator, num: int) -> Floats:
    """One draw for each code, and 0 for the one that adds nothing."""
    _, positions = np.unique(codes, return_inverse=True)
    drawn = np.sqrt(variance) * rng.standard_normal((int(positions.max()) + 1, num))
    return np.where(codes[:, None] == without, 0.0, drawn[positions])
