"""``autoqra``: two phases after Zhou et al., AutoQRA, arXiv 2602.22268.

Every group g has two importances in [0, 1]: I_q, how much it suffers from coarse formats, and I_r, how much
it asks for rank; I is their mean. With s_q and s_r in [0, 1] where a choice lies between the lowest and the
highest bits and rank, the low fidelity is (the authors' code; no training)

    P_low = mean_g I(g) (s_q + s_r) / 2

1. Evolution. It begins with the plan whose bits and ranks are in proportion to I_q and I_r (equation 6) and
   plans near it. Parents are the best by Pareto rank and crowding; children are steps of one format or rank.
   A child above the byte budget is repaired: the step down of the least (I + ε) / bytes saved, until it fits
   (equations 4 and 5). A perceptron of P_low, bytes, coverage mean_g I s and histograms foretells the
   measured quality (equation 7); what it finds best is trained, the high fidelity.
2. Bayesian optimization in trust regions. A Gaussian process (Matérn 5/2) on s_q, s_r and coverage (equation
   9) models the utility α P − (1 − α) M, both scaled by the front (equation 8); of the steps around the
   front's plans the one of the largest expected improvement is trained (equations 10 and 11).

From the authors' code: 40 parents, 5 children each, 6 plans of the first generation trained, surrogate of 64
and 32 units from 10 trials on, ε. The uniform plans that a study begins with are parents too. Chosen here:
the paper has one budget and one α; a study wants the whole front, so every proposal draws its own, the budget
evenly in bytes and α in [0, 1]. Importances are the study's sensitivity probe (output error of the coarsest
format; Fisher information), and ½ without one. Each trial is the one best new child of that moment. The
second phase has the last quarter of the trials and learns from all of them; it ends with the study. The
perceptron is scikit-learn's (ReLU, squared loss).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution

from jointsearch.front.pareto import is_on_front
from jointsearch.search.additive.observed import PROPOSED, key_of
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.attributes import stored_probe
from jointsearch.search.evolution import best_first, group_steps, mutated, neighbours
from jointsearch.search.gaussian_process import expected_improvement, fit
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.probe import GroupScores
from jointsearch.search.samplers import Sampler, SamplerContext, register_sampler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_PARENTS, NUM_CHILDREN, NUM_FIRST = 40, 5, 6
EVOLUTION = 0.75
"""The share of the trials that the first phase has."""
MIN_FOR_SURROGATE = 10
EPSILON = 1e-8
MAX_TRIES = 20


class AutoQRASampler(PlanSampler):
    """Proposes plans in two phases."""

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

    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        rng = np.random.default_rng((self._seed, number))
        trials = self.seen(study)
        known = set(self._reader.proposed(trials, rate))
        plans, losses = self.measured(study, trials)
        ladder = Ladder(self._options, importances(study, self._options))
        points = np.stack([losses, self._options.model_bytes(plans)], axis=1)
        is_first = not len(plans) or sum(PROPOSED in trial.system_attrs for trial in trials) < NUM_FIRST
        evolves = number < EVOLUTION * self._trials
        for _ in range(MAX_TRIES):
            if is_first:
                candidates = ladder.warm_start(rng)[None]
            elif evolves:
                candidates = self._children(ladder, plans[best_first(points)[:NUM_PARENTS]], rng)
            else:
                around = [neighbours(self._options, plan) for plan in plans[is_on_front(points)]]
                candidates = np.concatenate(around)
            new = np.array([chosen for chosen in candidates if key_of(chosen) not in known])
            if len(new):
                break
        else:
            return mutated(self._options, candidates[0], rng)
        if is_first:
            return np.asarray(new[0])
        score = self._foretold if evolves else self._improvement
        return np.asarray(new[int(np.argmax(score(ladder, plans, points, new, rng)))])

    def _children(self, ladder: Ladder, parents: Ints, rng: np.random.Generator) -> Ints:
        """Of every parent some steps, repaired to a budget of this proposal."""
        sizes = [entry.bytes for entry in self._options.groups]
        lowest, highest = (sum(int(pick(size)) for size in sizes) for pick in (np.min, np.max))
        budget = self._options.fixed_bytes + rng.uniform(lowest, highest)
        children = []
        for parent in parents:
            around = neighbours(self._options, parent)
            picked = rng.permutation(len(around))[:NUM_CHILDREN]
            children += [ladder.repaired(child, budget) for child in around[picked]]
        return np.unique(np.array(children), axis=0)

    def _foretold(
        self, ladder: Ladder, plans: Ints, points: Floats, new: Ints, rng: np.random.Generator
    ) -> Floats:
        """The quality that the surrogate foretells, higher is better; P_low while it knows too little."""
        if len(plans) < MIN_FOR_SURROGATE:
            return ladder.low_fidelity(new)
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        rows = ladder.descriptors(plans)
        center, spread = rows.mean(axis=0), rows.std(axis=0) + EPSILON
        model = MLPRegressor(
            hidden_layer_sizes=(64, 32),
            alpha=0.01,
            solver="lbfgs",
            max_iter=100,
            random_state=int(rng.integers(2**31)),
        )
        losses = points[:, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((rows - center) / spread, -(losses - losses.mean()) / (losses.std() + EPSILON))
        return np.asarray(model.predict((ladder.descriptors(new) - center) / spread))

    def _improvement(
        self, ladder: Ladder, plans: Ints, points: Floats, new: Ints, rng: np.random.Generator
    ) -> Floats:
        """Of the utility; here it is turned so that lower is better."""
        front = points[is_on_front(points)]
        span = np.ptp(front, axis=0)
        scaled = (points - front.min(axis=0)) / np.where(span > 0, span, 1.0)
        alpha = rng.random()
        cost = alpha * scaled[:, 0] + (1 - alpha) * scaled[:, 1]
        predict = fit(ladder.embedding(plans), cost)
        return expected_improvement(cost.min(), *predict(ladder.embedding(new)))


class Ladder:
    """Plans as the paper sees them: by how far up each group's bits and rank are."""

    def __init__(self, options: Options, importance: Floats) -> None:
        """``importance``: (num_groups, 2), of bits and of rank."""
        self._options = options
        self._importance = importance
        self._levels = [_levels(entry.group.bits, entry.group.ranks) for entry in options.groups]

    def shares(self, plans: Ints) -> Floats:
        """s_q and s_r, (num_plans, num_groups, 2)."""
        return np.stack([level[plans[:, g]] for g, level in enumerate(self._levels)], axis=1)

    def coverage(self, plans: Ints) -> Floats:
        """mean_g I s_q and mean_g I s_r, (num_plans, 2)."""
        weighted = self._importance.mean(axis=1)[None, :, None] * self.shares(plans)
        return np.asarray(weighted.mean(axis=1))

    def low_fidelity(self, plans: Ints) -> Floats:
        return np.asarray(self.coverage(plans).mean(axis=1))

    def embedding(self, plans: Ints) -> Floats:
        """Equation 9: (num_plans, 2 num_groups + 2)."""
        return np.concatenate([self.shares(plans).reshape(len(plans), -1), self.coverage(plans)], axis=1)

    def descriptors(self, plans: Ints) -> Floats:
        """What the surrogate sees: P_low, bytes, coverage, and the share of groups at each tenth."""
        tenths = np.round(10 * self.shares(plans)).astype(int)
        counts = (tenths[..., None] == np.arange(11)).mean(axis=1).reshape(len(plans), -1)
        known = [self.low_fidelity(plans), self._options.model_bytes(plans)]
        return np.concatenate([np.stack(known, axis=1), self.coverage(plans), counts], axis=1)

    def warm_start(self, rng: np.random.Generator) -> Ints:
        """Equation 6, with a few groups drawn anew."""
        nearest = [
            int(np.argmin(np.abs(level - wanted).sum(axis=1)))
            for level, wanted in zip(self._levels, self._importance, strict=True)
        ]
        chosen = np.array(nearest, dtype=np.int64)
        for group in rng.integers(len(chosen), size=min(4, len(chosen))):
            chosen[group] = rng.integers(len(self._levels[group]))
        return chosen

    def repaired(self, chosen: Ints, budget: float) -> Ints:
        """Equations 4 and 5: down the steps of the least importance per byte, until the plan fits."""
        chosen = chosen.copy()
        while self._options.model_bytes(chosen) > budget:
            down = [
                (self._cost(group, int(at), to), group, to)
                for group, at in enumerate(chosen)
                for to in group_steps(self._options, group, int(at))
                if self._saved(group, int(at), to) > 0
            ]
            if not down:
                break
            _, group, to = min(down)
            chosen[group] = to
        return chosen

    def _saved(self, group: int, at: int, to: int) -> int:
        sizes = self._options.groups[group].bytes
        return int(sizes[at] - sizes[to])

    def _cost(self, group: int, at: int, to: int) -> float:
        of_rank = at // len(self._options.groups[group].group.ranks) == to // len(
            self._options.groups[group].group.ranks
        )
        return (float(self._importance[group, int(of_rank)]) + EPSILON) / self._saved(group, at, to)


def importances(study: optuna.Study, options: Options) -> Floats:
    """I_q and I_r, (num_groups, 2), each scaled to [0, 1]; ½ where nothing tells groups apart."""
    probe = stored_probe(study)
    if probe is None:
        return np.full((len(options.groups), 2), 0.5)
    scores = [probe.groups.get(entry.group.name, GroupScores()) for entry in options.groups]
    raw = np.array([[_gain(score.bits), _gain(score.ranks)] for score in scores])
    span = np.ptp(raw, axis=0)
    return np.where(span > 0, (raw - raw.min(axis=0)) / np.where(span > 0, span, 1.0), 0.5)


def _gain(scores: tuple[float, ...]) -> float:
    return scores[0] - scores[-1] if scores else 0.0


def _levels(bits: tuple[int, ...], ranks: tuple[int, ...]) -> Floats:
    """(num_options, 2): where every option of a group lies between its lowest and its highest choices."""

    def scaled(values: tuple[int, ...]) -> list[float]:
        return [(value - min(values)) / max(max(values) - min(values), 1) for value in values]

    return np.array([[b, r] for b in scaled(bits) for r in scaled(ranks)])


def build(context: SamplerContext) -> AutoQRASampler:
    return AutoQRASampler.of(context, trials=context.settings.trials)


register_sampler(Sampler("autoqra", build, uses_probe=True))
