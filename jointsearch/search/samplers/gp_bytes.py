"""``gp-bytes``: a Gaussian process of the loss alone; the bytes of a candidate are exact.

A candidate of b bytes, whose loss is y ~ N(m, s²), is expected to add to the front's hypervolume

    EHVI = ∫_b^B E[max(f(t) - y, 0)] dt = Σ_k w_k EI(f_k)

with f(t) the best loss of no more than t bytes so far, a step function of heights f_k (left of the smallest
plan, that plan's); w_k what of step k lies above b; and B above all plans. This is what the expected
hypervolume improvement (Emmerich et al., IEEE CEC 2011) comes to where one objective is known. So that noise
is no gain, f is that of the process's means of what has been measured. Its kernel is Matérn 5/2 on the
features of ``search.additive.options``.
"""

from __future__ import annotations

import numpy as np
import optuna
from numpy.typing import NDArray

from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.gaussian_process import best_new, expected_improvement, fit
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.samplers import NUM_RANDOM, Sampler, register_sampler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MARGIN = 0.1
"""Of the bytes' span: how far the box reaches above the largest plan, so that its end is worth a trial."""


class ExactBytesGP(PlanSampler):
    """Proposes the plan that is expected to add most to the front."""

    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        rng = np.random.default_rng((self._seed, number))
        trials = self.seen(study)
        known = set(self._reader.proposed(trials, rate))
        plans, losses = self.measured(study, trials)
        if len(plans) < NUM_RANDOM:
            return self._options.random(rng)
        options, sizes = self._options, self._options.model_bytes(plans)
        predict = fit(options.design(plans), losses)
        means, _ = predict(options.design(plans))
        order = np.argsort(sizes, kind="stable")
        steps = np.minimum.accumulate(means[order])
        smallest, largest = byte_range(options)
        ends = np.append(sizes[order][1:], largest + MARGIN * (largest - smallest))

        def score(candidates: Ints) -> Floats:
            mean, deviation = predict(options.design(candidates))
            return expected_growth(
                options.model_bytes(candidates), mean, deviation, sizes[order], ends, steps
            ) / (largest - smallest + 1)

        on_front = order[np.append(True, steps[1:] < steps[:-1])]
        return best_new(options, score, plans[on_front], known, rng)


def byte_range(options: Options) -> tuple[int, int]:
    """The bytes of the smallest and of the largest plan."""
    low, high = (sum(int(pick(entry.bytes)) for entry in options.groups) for pick in (np.min, np.max))
    return options.fixed_bytes + low, options.fixed_bytes + high


def expected_growth(
    sizes: Ints, mean: Floats, deviation: Floats, starts: Ints, ends: Floats, heights: Floats
) -> Floats:
    """EHVI of candidates, (num_candidates,), for steps from ``starts`` to ``ends`` at falling ``heights``."""
    starts, ends = np.append(-np.inf, starts), np.append(starts[0], ends)
    heights = np.append(heights[0], heights)
    widths = np.maximum(ends[None] - np.maximum(starts[None], sizes[:, None]), 0.0)
    gains = expected_improvement(heights[None], mean[:, None], deviation[:, None])
    return np.asarray((widths * gains).sum(axis=1))


register_sampler(Sampler("gp-bytes", ExactBytesGP.of))
