"""``sampler: qr-adaptor``: three stages after Zhou et al., QR-Adaptor, arXiv 2505.03802.

1. Initialization by sensitivity: the groups that suffer most get the most bits and rank.
2. A Pareto-ranking genetic algorithm whose genes are a group's (bits, rank) as one, changed by steps to
   a neighbour (one choice up or down of bits or of rank).
3. Bayesian optimization around the front that has been found.

The paper's abstract and introduction were at hand, not its appendix or code. So these are this module's
own choices: sensitivity comes from the study's probe, and from nothing (all groups alike) without one; a
population is a tenth of the trials, at least 10 plans; the stages end after one population and after two
thirds of the trials; parents win binary tournaments by Pareto rank and crowding distance (Deb et al.,
NSGA-II, 2002) among the best of all trials so far; genes are crossed uniformly and mutate with
probability 1 / groups, at least one; the third stage fits a Gaussian process (Matérn 5/2) to a random
weighting of both objectives (Knowles, ParEGO, IEEE TEC 10(1), 2006) and takes, among neighbours of the
front, the one of the largest expected improvement. The paper's objectives are task performance and
memory, as here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution

from jointsearch.front.pareto import is_on_front
from jointsearch.search.additive.observed import key_of
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.attributes import stored_probe
from jointsearch.search.evolution import best_first, mutated
from jointsearch.search.gaussian_process import expected_improvement, fit
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.probe import group_effects
from jointsearch.search.samplers import Sampler, SamplerContext, register_sampler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_POPULATION = 10
NUM_CANDIDATES = 200
MAX_TRIES = 20


class QRAdaptorSampler(PlanSampler):
    """Proposes plans in three stages."""

    def __init__(
        self,
        options: Options,
        distributions: Mapping[str, IntDistribution],
        *,
        sign: int,
        seed: int,
        trials: int,
    ) -> None:
        """``trials``: of the whole study."""
        super().__init__(options, distributions, sign=sign, seed=seed)
        self._trials = trials
        self._population = max(MIN_POPULATION, trials // 10)

    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        rng = np.random.default_rng((self._seed, number))
        trials = self.seen(study)
        known = set(self._reader.proposed(trials, rate))
        plans, quality = self.measured(study, trials)
        points = np.stack([quality, self._options.model_bytes(plans)], axis=1)
        for _ in range(MAX_TRIES):
            if len(plans) < self._population:
                proposal = self._initial(study, rng)
            elif number < 2 * self._trials / 3:
                proposal = self._child(plans, points, rng)
            else:
                proposal = self._improving(plans, points, known, rng)
            if key_of(proposal) not in known:
                break
        return proposal

    def _initial(self, study: optuna.Study, rng: np.random.Generator) -> Ints:
        """The most sensitive share of the groups gets a higher choice than the others, then a mutation."""
        chosen = np.zeros(len(self._options.groups), dtype=np.int64)
        share = rng.random()
        for axis, sensitivity in enumerate(self._sensitivities(study).T):
            order = np.argsort(-sensitivity - 1e-9 * rng.random(len(sensitivity)))
            above = set(order[: round(share * len(order))].tolist())
            level = rng.random()
            for group, entry in enumerate(self._options.groups):
                steps = entry.num_rank_steps if axis else entry.num_format_steps
                position = round(level * steps)
                position = min(steps, position + 1) if group in above else max(0, position - 1)
                chosen[group] += position * (1 if axis else len(entry.group.ranks))
        return mutated(self._options, chosen, rng)

    def _sensitivities(self, study: optuna.Study) -> Floats:
        """(num_groups, 2): what a group gains from all its bits and from all its ranks."""
        probe = stored_probe(study)
        if probe is None:
            return np.zeros((len(self._options.groups), 2))
        effects = group_effects(probe, self._options)
        return np.asarray(-np.add.reduceat(effects, self._options.offsets[:-1], axis=0))

    def _child(self, plans: Ints, points: Floats, rng: np.random.Generator) -> Ints:
        """Of two parents from the best plans so far."""
        order = best_first(points)[: self._population]
        parents = [int(min(rng.integers(len(order), size=2))) for _ in range(2)]
        first, second = plans[order[parents[0]]], plans[order[parents[1]]]
        return mutated(self._options, np.where(rng.random(len(first)) < 0.5, first, second), rng)

    def _improving(self, plans: Ints, points: Floats, known: set[bytes], rng: np.random.Generator) -> Ints:
        """The neighbour of the front with the largest expected improvement of a random weighting."""
        front = plans[is_on_front(points)]
        drawn = [mutated(self._options, front[rng.integers(len(front))], rng) for _ in range(NUM_CANDIDATES)]
        candidates = np.array([chosen for chosen in drawn if key_of(chosen) not in known])
        if not len(candidates):
            return mutated(self._options, drawn[0], rng)
        span = np.ptp(points, axis=0)
        scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
        weight = rng.random()
        target = np.maximum(weight * scaled[:, 0], (1 - weight) * scaled[:, 1]) + 0.05 * scaled.sum(axis=1)
        predict = fit(self._options.design(plans), target)
        improvement = expected_improvement(target.min(), *predict(self._options.design(candidates)))
        return np.asarray(candidates[int(np.argmax(improvement))])


def build(context: SamplerContext) -> QRAdaptorSampler:
    return QRAdaptorSampler.of(context, trials=context.settings.trials)


register_sampler(Sampler("qr-adaptor", build, uses_probe=True))
