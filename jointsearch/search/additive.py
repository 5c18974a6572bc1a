"""``sampler: additive``: bytes are known, quality is nearly a sum; ask a model of the sum for the best plans.

Each proposal draws effects from the surrogate's posterior (Thompson sampling: Thompson, Biometrika 25,
1933; for fronts: Bradford et al., TSEMO, J. Global Optimization 71, 2018), and solves the knapsack
exactly at a byte budget. Budgets follow the golden-ratio sequence u_n = frac(u_0 + n (√5 − 1)/2) in the
trial's number n (Schretter et al., 2012), laid out evenly along the front of the draw, so that they differ
from worker to worker and fill the front without anyone's coordination.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial

from jointsearch.search.attributes import PROBE
from jointsearch.search.knapsack import Knapsack
from jointsearch.search.observed import key_of
from jointsearch.search.options import Options
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.probe import Probe
from jointsearch.search.surrogate import Surrogate

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

GOLDEN = (5**0.5 - 1) / 2
NUM_BUDGETS = 16
"""Budgets at which the front of a draw is solved, to lay out the sequence along it."""
MAX_BUDGETS_TRIED = 32
MAX_PLANS_TRIED = 200


class AdditiveSampler(PlanSampler):
    """Proposes plans that are Pareto-optimal under a draw from the additive model, and new to the study.

    The axis beside quality is always the exact bytes of the plan.
    """

    def __init__(
        self,
        options: Options,
        distributions: Mapping[str, IntDistribution],
        *,
        sign: int,
        seed: int,
        repeats: int = 1,
    ) -> None:
        """``repeats``: how often a plan may come up."""
        super().__init__(options, distributions, sign=sign, seed=seed)
        self._repeats = repeats
        self._fitted: tuple[int, Surrogate] | None = None

    def propose(self, study: optuna.Study, number: int) -> Ints:
        trials = study.get_trials(deepcopy=False)
        surrogate = self._surrogate(study, trials)
        known = self._reader.proposed(trials)
        rng = np.random.default_rng((self._seed, number))
        knapsack = sizes_and_values(surrogate, surrogate.draw(rng)[:, 0])
        budgets = even_budgets(knapsack, NUM_BUDGETS)
        start = np.random.default_rng(self._seed).random() + number * GOLDEN
        for attempt in range(MAX_BUDGETS_TRIED):
            position = (start + attempt * GOLDEN) % 1.0
            budget = np.interp(position, np.linspace(0, 1, len(budgets)), budgets)
            chosen = knapsack.solve(int(budget))
            if known[key_of(chosen)] < self._repeats:
                return chosen
        return new_neighbour(knapsack, chosen, {key for key in known if known[key] >= self._repeats})

    def _surrogate(self, study: optuna.Study, trials: list[FrozenTrial]) -> Surrogate:
        num_complete = sum(trial.state.is_finished() for trial in trials)
        if self._fitted is None or self._fitted[0] != num_complete:
            self._fitted = (
                num_complete,
                Surrogate.fit(self._options, self._reader.observations(trials), stored_probe(study)),
            )
        return self._fitted[1]


def stored_probe(study: optuna.Study) -> Probe | None:
    """The probe's result, once a worker has stored it with the study."""
    stored = study.user_attrs.get(PROBE)
    return None if stored is None else Probe.model_validate(stored)


def sizes_and_values(surrogate: Surrogate, effects: Floats) -> Knapsack:
    """The knapsack of one vector of effects; its bytes are those of the groups alone."""
    sizes = [entry.bytes for entry in surrogate.options.groups]
    return Knapsack.of(sizes, surrogate.option_values(effects))


def even_budgets(knapsack: Knapsack, num: int) -> Floats:
    """Budgets, (num,), that lie evenly along the front, both of its axes scaled to [0, 1]."""
    budgets = np.linspace(knapsack.min_bytes, knapsack.max_useful_bytes, num)
    solved = [knapsack.solve(int(budget)) for budget in budgets]
    values = np.array([knapsack.total_value(chosen) for chosen in solved])
    if np.ptp(budgets) == 0:
        return budgets
    steps = np.hypot(np.diff(budgets) / np.ptp(budgets), np.diff(values) / max(np.ptp(values), 1e-300))
    lengths = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.interp(np.linspace(0.0, lengths[-1], num), lengths, budgets))


def new_neighbour(knapsack: Knapsack, chosen: Ints, known: set[bytes]) -> Ints:
    """The cheapest plan near ``chosen`` that is not known; ``chosen`` itself where none is found.

    Best first over changes of single groups, with bytes priced at the slope of the whole front.
    """
    best, largest = knapsack.values.min(axis=1).sum(), knapsack.max_useful_bytes
    worst = knapsack.total_value(knapsack.solve(knapsack.min_bytes))
    priced = knapsack.values + (worst - best) / max(largest - knapsack.min_bytes, 1) * knapsack.bytes
    real, groups = np.isfinite(priced), np.arange(len(chosen))
    start = tuple(chosen.tolist())
    queue, seen = [(0.0, start)], {start}
    for _ in range(MAX_PLANS_TRIED):
        if not queue:
            break
        _, plan = heapq.heappop(queue)
        options = np.array(plan, dtype=np.int64)
        if key_of(options) not in known:
            return options
        for group, option in np.argwhere(real).tolist():
            neighbour = (*plan[:group], option, *plan[group + 1 :])
            if neighbour not in seen:
                seen.add(neighbour)
                heapq.heappush(queue, (float(priced[groups, neighbour].sum()), neighbour))
    return chosen
