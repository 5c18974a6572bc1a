"""Fits the scales of the surrogate's levels and its noise: evidence times weak log-normal priors.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 5.4.1 and 2.2 (equation 2.30).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# κ bits, κ ranks, η bits, η ranks, interactions, noise: logarithms of standard deviations
LOG_SCALES = np.log([1.0, 1.0, 0.5, 0.5, 0.3, 0.15])
LOG_SPREADS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.5])
BOUNDS = (-9.0, 5.0)
JITTER = 1e-9


def repeat_deviation(values: Floats, plans: Ints, seeds: Ints) -> tuple[float, int] | None:
    """Standard deviation of a trial around plan and seed, and its degrees of freedom; None without repeats.

    Residuals of the two-way layout plan + seed by least squares, over the plans with several trials.
    """
    _, codes, counts = np.unique(plans, return_inverse=True, return_counts=True)
    rows = counts[codes] > 1
    if not rows.any():
        return None
    design = np.concatenate([_one_hot(plans[rows]), _one_hot(seeds[rows])], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(design, values[rows], rcond=None)
    freedom = int(rows.sum()) - int(rank)
    if freedom < 1:
        return None
    residual = values[rows] - design @ solution
    return float(np.sqrt(residual @ residual / freedom)), freedom


def maximize(
    parts: Sequence[Floats], fixed: Floats, residual: Floats, center: Floats, spread: Floats, start: Floats
) -> tuple[Floats, float]:
    """Logs of the scales at the maximum of evidence times prior, and the logarithm of that product.

    ``parts``: covariance of the trials by each level at a unit of its scale; ``fixed``: by what has no scale.
    The last scale is the noise. ``center`` and ``spread`` are the normal prior of the logs.
    """
    num = len(residual)
    identity = np.eye(num)

    def negative(logs: Floats) -> tuple[float, Floats]:
        weights = np.exp(2 * logs)
        kernel = fixed + identity * (weights[-1] + JITTER)
        for weight, part in zip(weights, parts, strict=False):
            kernel = kernel + weight * part
        factor = cho_factor(kernel, lower=True)
        inverse = cho_solve(factor, identity)
        alpha = inverse @ residual
        log_determinant = 2 * np.log(np.diag(factor[0])).sum()
        evidence = -0.5 * (residual @ alpha + log_determinant + num * np.log(2 * np.pi))
        outer = np.outer(alpha, alpha) - inverse
        slopes = [weight * np.vdot(outer, part) for weight, part in zip(weights, parts, strict=False)]
        gradient = np.array([*slopes, weights[-1] * np.trace(outer)])
        away = (logs - center) / spread
        return -(evidence - 0.5 * away @ away), -(gradient - away / spread)

    found = minimize(
        negative, np.clip(start, *BOUNDS), jac=True, bounds=[BOUNDS] * len(start), options={"maxiter": 40}
    )
    return found.x, -float(found.fun)


def _one_hot(codes: Ints) -> Floats:
    names = np.unique(codes)
    return np.asarray(codes[:, None] == names, dtype=float)
