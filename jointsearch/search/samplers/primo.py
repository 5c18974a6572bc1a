"""``primo``: Bayesian optimization with a prior for each objective, after PriMO (Basu et al., 2511.08371).

After an initial design every proposal weights the objectives at random and maximizes, with probability ε, the
expected improvement α(x) of the weighted sum; else

    α(x) π_j(x)^γ,   γ = exp(−n² / d),   j drawn evenly from the objectives

with n the proposals so far beyond the initial design, d the number of parameters, and π_j what an expert
believes to be best for objective j alone: a product of normal densities over the parameters, scaled to [0,
1].

ε = 1/4, as in the authors' code. Chosen here: the experts' priors, which are what anyone knows, the highest
of all choices for quality and the lowest for bytes, with their "medium" standard deviation of 1/4; objectives
are scaled to [0, 1] by the trials; expected improvement and a climb over plans for the Monte Carlo
acquisition of BoTorch. The initial design is random, as the code allows: trials of a study have one fidelity,
where the paper has MOASHA.
"""

from __future__ import annotations

import numpy as np
import optuna
from numpy.typing import NDArray

from jointsearch.front.pareto import is_on_front
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.gaussian_process import best_new, expected_improvement, fit
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.samplers import NUM_RANDOM, Sampler, register_sampler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EPSILON = 0.25
DEVIATION = 0.25
QUALITY, SIZE = 1.0, 0.0
"""Where the two priors have their centers: all parameters at their highest, and at their lowest."""


class PriMOSampler(PlanSampler):
    """Proposes what a random weighting of the objectives, and sometimes an expert, would try next."""

    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        rng = np.random.default_rng((self._seed, number))
        trials = self.seen(study)
        known = set(self._reader.proposed(trials, rate))
        plans, losses = self.measured(study, trials)
        options = self._options
        if len(plans) < NUM_RANDOM:
            return options.random(rng)
        points = np.stack([losses, options.model_bytes(plans)], axis=1)
        span = np.ptp(points, axis=0)
        scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
        weights = rng.random(2)
        cost = scaled @ (weights / weights.sum())
        predict = fit(options.design(plans), cost)
        num_beyond = len(plans) - NUM_RANDOM
        exponent = np.exp(-(num_beyond**2) / len(self._distributions)) * (rng.random() >= EPSILON)
        center = (QUALITY, SIZE)[rng.integers(2)]

        def score(candidates: Ints) -> Floats:
            gains = expected_improvement(cost.min(), *predict(options.design(candidates)))
            log_gains = np.log(np.maximum(gains, 1e-300))
            return np.asarray(log_gains + exponent * log_prior(options, candidates, center))

        return best_new(options, score, plans[is_on_front(points)], known, rng)


def log_prior(options: Options, plans: Ints, center: float) -> Floats:
    """log π up to a constant, (num_plans,)."""
    params = [options.params(plan) for plan in plans]
    highest = {name: len(choices) - 1 for name, choices in options.space.group_parameters.items()}
    positions = np.array([[plan[name] / highest[name] for name in highest] for plan in params])
    return np.asarray(-(((positions - center) / DEVIATION) ** 2).sum(axis=1) / 2)


register_sampler(Sampler("primo", PriMOSampler.of))
