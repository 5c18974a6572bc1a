"""What bits and ranks are worth in longer runs than the search's, from the finals that there are.

A rank's worth shows late, and that of bits shrinks as adapters learn to make up for errors. The surrogate
knows what every group's bits and ranks are worth in trials of T₀ steps. After T steps the quality of a plan
x is

    y(x, T) = μ_T + k [(1 + g_bits ℓ) β_bits(x) + (1 + g_ranks ℓ) β_ranks(x)] + ε,    ℓ = log(T / T₀)

with β_bits and β_ranks the sums of what x's bits and ranks (interactions with them) are worth by the
surrogate's mean, and k the slope of its link at the trials' middle. μ_T is free at every length; g ~ N(0,
``GROWTH``²) is the same for all lengths, so that runs of one length say something of longer ones, with more
doubt the longer they are: a Bayesian linear model (Bishop, Pattern Recognition and Machine Learning, 2006,
section 3.3) whose noise is that of its residuals. No worth changes its sign: 1 + g ℓ is at least 0.

Losses along a run are not used. The learning rate falls along it, so that a loss on the way is not that of a
shorter run. Of what a rank is worth after 1000 steps, the line through runs of 40 and 300 steps was off by
.011 nats in the mean, the slope along the run of 300 by .040, the mean of both by .024; of a run of 40 alone
the slope was off by .208, no growth at all by .236 (``studies/benchmarks/horizons.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from jointsearch.search.additive.observed import TrialReader
from jointsearch.search.additive.prior import BITS
from jointsearch.search.additive.surrogate import Observations, Surrogate
from jointsearch.search.attributes import STEPS

Floats = NDArray[np.float64]

GROWTH = 0.5
"""Prior standard deviation of g: a worth may well double, or vanish, in three times the steps."""
MEAN_VARIANCE = 100.0
"""Of μ, around the mean of a length's runs, in squared units of the link."""
NUM_DRAWS = 512
MIN_NOISE = 0.05
"""Standard deviation of a run around the model, at the least, in units of the link."""


@dataclass(frozen=True)
class Horizon:
    """The surrogate of the search's trials, turned into one of longer runs."""

    surrogate: Surrogate
    steps: int
    growth: Floats
    """(2,): mean of g, of bits and of ranks."""
    covariance: Floats
    """(2, 2): of g"""
    level: float | None
    """μ at ``steps``, in the units of the quality; None where no run was as long."""
    level_deviation: float
    log_ratio: float
    """ℓ at ``steps``"""

    @classmethod
    def fit(
        cls, surrogate: Surrogate, finals: Mapping[int, Observations], own_steps: int, steps: int
    ) -> Horizon:
        """From the ``finals`` of each length; without any of them the worth of everything stays as it is."""
        slope = _slope(surrogate)
        lengths = sorted(length for length, found in finals.items() if len(found.values))
        rows, right = [], []
        for number, length in enumerate(lengths):
            worth = _worth(surrogate, finals[length].design)
            log_ratio = np.log(length / own_steps)
            levels = np.zeros((len(worth), len(lengths)))
            levels[:, number] = 1.0
            rows.append(np.concatenate([worth * log_ratio, levels], axis=1))
            right.append(finals[length].values / slope - worth.sum(axis=1))
        if not lengths:
            return cls(
                surrogate,
                steps,
                np.zeros(2),
                np.eye(2) * GROWTH**2,
                None,
                0.0,
                float(np.log(steps / own_steps)),
            )
        design, target = np.concatenate(rows), np.concatenate(right)
        centers = np.array([0.0, 0.0, *(part.mean() for part in right)])
        precision = np.diag([GROWTH**-2] * 2 + [1 / MEAN_VARIANCE] * len(lengths))
        mean, covariance = _posterior(design, target - design @ centers, precision)
        mean = mean + centers
        level, deviation = None, 0.0
        if steps in lengths:
            position = 2 + lengths.index(steps)
            level, deviation = (
                float(mean[position] * slope),
                float(np.sqrt(covariance[position, position]) * slope),
            )
        return cls(
            surrogate, steps, mean[:2], covariance[:2, :2], level, deviation, float(np.log(steps / own_steps))
        )

    @classmethod
    def of_trials(
        cls,
        surrogate: Surrogate,
        reader: TrialReader,
        trials: Sequence[FrozenTrial],
        own_steps: int,
        steps: int,
    ) -> Horizon:
        """From the finals among ``trials``; at ``steps``, or at the longest of them if that is longer."""
        by_length: dict[int, list[FrozenTrial]] = {}
        for trial in trials:
            if STEPS in trial.user_attrs and trial.state == TrialState.COMPLETE:
                by_length.setdefault(int(trial.user_attrs[STEPS]), []).append(trial)
        finals = {length: reader.observations(found) for length, found in by_length.items()}
        return cls.fit(surrogate, finals, own_steps, max([steps, *finals]))

    def factors(self, rng: np.random.Generator | None = None, num: int = 1) -> Floats:
        """(2, num): how many times as much bits and ranks are worth; expected without ``rng``, else drawn."""
        growth = self.growth[:, None] * np.ones(num)
        if rng is not None:
            growth = growth + np.linalg.cholesky(self.covariance + 1e-12 * np.eye(2)) @ rng.standard_normal(
                (2, num)
            )
        return np.maximum(0.0, 1.0 + growth * self.log_ratio)

    def predict(self, design: Floats, rng: np.random.Generator, tail: float) -> tuple[Floats, Floats, Floats]:
        """Expected qualities of plans and their quantiles ``tail`` and 1 - ``tail``; lower is better.

        Raises ``ValueError`` where no run was as long.
        """
        if self.level is None:
            raise ValueError(f"no run of {self.steps} steps says what is reached there")
        slope = _slope(self.surrogate)
        effects = self.of_length(self.surrogate.draw(rng, NUM_DRAWS), self.factors(rng, NUM_DRAWS))
        level = self.level + self.level_deviation * rng.standard_normal(NUM_DRAWS)
        drawn = level + slope * (design @ effects)
        low, high = np.quantile(drawn, tail, axis=1), np.quantile(drawn, 1 - tail, axis=1)
        mean = self.level + slope * (design @ self.of_length(self.surrogate.effects, self.factors()[:, 0]))
        return np.asarray(mean), np.asarray(low), np.asarray(high)

    def of_length(self, effects: Floats, factors: Floats) -> Floats:
        """Effects θ of trials, (P,) or (P, num), as those of longer runs; ``factors``: (2,) or (2, num)."""
        is_bits = self.surrogate.prior.axis == BITS
        return np.asarray(effects * np.where(_as_column(is_bits, effects), factors[0], factors[1]))


def _as_column(mask: NDArray[np.bool_], effects: Floats) -> NDArray[np.bool_]:
    return mask if effects.ndim == 1 else mask[:, None]


def _slope(surrogate: Surrogate) -> float:
    """dy / dz of the link at the trials' middle."""
    step = 1e-4
    low, high = surrogate.link.inverse(np.array([-step, step]))
    return float((high - low) / (2 * step))


def _worth(surrogate: Surrogate, design: Floats) -> Floats:
    """(num_rows, 2): β of bits and of ranks."""
    is_bits = surrogate.prior.axis == BITS
    effects = surrogate.effects
    return np.stack([design[:, is_bits] @ effects[is_bits], design[:, ~is_bits] @ effects[~is_bits]], axis=1)


def _posterior(design: Floats, target: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of the coefficients; the noise is that of the residuals, found in a few rounds."""
    noise = 1.0
    mean: Floats = np.zeros(design.shape[1])
    covariance: Floats = np.asarray(np.linalg.inv(precision))
    for _ in range(20):
        covariance = np.asarray(np.linalg.inv(precision + design.T @ design / noise**2), dtype=float)
        mean = covariance @ design.T @ target / noise**2
        residual = target - design @ mean
        freedom = max(1.0, len(target) - design.shape[1])
        noise = max(MIN_NOISE, float(np.sqrt(residual @ residual / freedom)))
    return mean, covariance
