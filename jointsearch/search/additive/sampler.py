"""``sampler: additive``: bytes are known, quality is nearly a sum; ask a model of the sum for the best plans.

Each proposal draws effects from the surrogate's posterior (Thompson sampling: Thompson, Biometrika 25,
1933; for fronts: Bradford et al., TSEMO, J. Global Optimization 71, 2018), and solves the knapsack
exactly at a byte budget. Budgets follow the golden-ratio sequence u_n = frac(u_0 + n (√5 − 1)/2) in the
trial's number n (Schretter et al., 2012), laid out evenly along the front of the draw, so that they differ
from worker to worker and fill the front without anyone's coordination.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution

from jointsearch.search.additive.budgets import NUM_BUDGETS, even_budgets, new_neighbour, sizes_and_values
from jointsearch.search.additive.horizon import Horizon
from jointsearch.search.additive.observed import key_of
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.plan_sampler import PlanSampler, searched

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

GOLDEN = (5**0.5 - 1) / 2
MAX_BUDGETS_TRIED = 32


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
        steps: tuple[int, int] | None = None,
    ) -> None:
        """``repeats``: how often a plan may come up; ``steps``: of a trial, and of the runs that plans are
        proposed for, where these are longer."""
        super().__init__(options, distributions, sign=sign, seed=seed)
        self._repeats = repeats
        self._steps = steps

    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        whole = study.get_trials(deepcopy=False)
        trials = searched(whole)
        surrogate = self.surrogate(study, trials)
        known = self._reader.proposed(trials, rate)
        rng = np.random.default_rng((self._seed, number))
        effects = surrogate.draw(rng)[:, 0]
        if self._steps is not None:
            horizon = Horizon.of_trials(surrogate, self._reader, whole, *self._steps)
            effects = horizon.of_length(effects, horizon.factors(rng)[:, 0])
        knapsack = sizes_and_values(surrogate, effects)
        if self._bounds is not None:
            knapsack = self._bounds.bounded(knapsack)
        budgets = even_budgets(knapsack, NUM_BUDGETS)
        start = np.random.default_rng(self._seed).random() + number * GOLDEN
        for attempt in range(MAX_BUDGETS_TRIED):
            position = (start + attempt * GOLDEN) % 1.0
            budget = np.interp(position, np.linspace(0, 1, len(budgets)), budgets)
            chosen = knapsack.solve(int(budget))
            if known[key_of(chosen)] < self._repeats:
                return chosen
        return new_neighbour(knapsack, chosen, {key for key in known if known[key] >= self._repeats})
