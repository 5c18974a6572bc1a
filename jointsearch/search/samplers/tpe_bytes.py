"""``tpe-bytes``: TPE, whose proposals are chosen by their exact bytes.

TPE (Bergstra et al., NeurIPS 2011; for several objectives Ozaki et al., JAIR 73, 2022; both by Optuna, and
multivariate) says of its candidates how likely they are to be good, not where on the front they will be. That
is known before a trial: of several proposals the one is taken whose bytes are nearest to a size that is drawn
evenly along the measured front, both of its axes scaled to [0, 1].
"""

from __future__ import annotations

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import create_trial

from jointsearch.front.pareto import is_on_front
from jointsearch.search.additive.observed import key_of
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.samplers import NUM_RANDOM, Sampler, register_sampler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_PROPOSALS = 8


class ExactBytesTPE(PlanSampler):
    """Proposes, of what TPE would try, a plan of the size that is wanted next."""

    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        rng = np.random.default_rng((self._seed, number))
        trials = self.seen(study)
        known = self._reader.proposed(trials, rate)
        plans, losses = self.measured(study, trials)
        if len(plans) < NUM_RANDOM:
            return self._options.random(rng)
        sizes = self._options.model_bytes(plans)
        wanted = along_front(losses, sizes, rng.random())
        space: dict[str, BaseDistribution] = dict(self._distributions)
        with experimental_optuna():
            inner = TPESampler(multivariate=True, n_startup_trials=0, seed=int(rng.integers(2**31)))
        beside = optuna.create_study(directions=["minimize", "minimize"], sampler=inner)
        beside.add_trials(
            [
                create_trial(
                    values=[float(loss), float(size)],
                    params=self._options.params(chosen),
                    distributions=space,
                )
                for chosen, loss, size in zip(plans, losses, sizes, strict=True)
            ]
        )
        asked = [beside.ask(space).params for _ in range(NUM_PROPOSALS)]
        proposals = [self._options.chosen(params) for params in asked]
        new = [chosen for chosen in proposals if not known[key_of(chosen)]] or proposals
        return min(new, key=lambda chosen: abs(int(self._options.model_bytes(chosen)) - wanted))


def along_front(losses: Floats, sizes: Ints, share: float) -> float:
    """The bytes at so much of the way along the front, from its smallest plan to its largest."""
    points = np.stack([sizes, losses], axis=1)
    points = np.unique(points[is_on_front(points)], axis=0)  # by rising bytes
    span = np.ptp(points, axis=0)
    steps = np.hypot(*(np.diff(points, axis=0) / np.where(span > 0, span, 1.0)).T)
    lengths = np.append(0.0, np.cumsum(steps))
    return float(np.interp(share * lengths[-1], lengths, points[:, 0]))


register_sampler(Sampler("tpe-bytes", ExactBytesTPE.of))
