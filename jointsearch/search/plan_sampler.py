"""What samplers of ours share: a proposal is a whole plan, and other workers see it at once."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from jointsearch.search.additive.observed import PROPOSED, PROPOSED_RATE, TrialReader
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.surrogate import Surrogate
from jointsearch.search.attributes import SEED, STEPS, stored_probe
from jointsearch.search.bounds import Bounds
from jointsearch.search.learning_rate import as_trials, stored_sweep
from jointsearch.search.optuna_compat import show_to_others
from jointsearch.space import LEARNING_RATE

if TYPE_CHECKING:
    from jointsearch.plan.limits import Limits
    from jointsearch.search.samplers import SamplerContext

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def searched(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """All but finals, which train for longer: what a proposal for the search goes by."""
    return [trial for trial in trials if STEPS not in trial.user_attrs]


class PlanSampler(BaseSampler):
    """Stateless across workers: a proposal depends on the stored trials, the seed and the trial's number."""

    def __init__(
        self, options: Options, distributions: Mapping[str, IntDistribution], *, sign: int, seed: int
    ) -> None:
        """``sign``: of the quality, the study's first objective; +1 where lower is better."""
        self._options = options
        self._rates = options.space.learning_rates
        self._space = dict(distributions)
        self._distributions = {name: kind for name, kind in distributions.items() if name != LEARNING_RATE}
        self._reader = TrialReader(options, sign)
        self._seed = seed
        self._random = RandomSampler(seed=seed)
        self._fitted: tuple[int, Surrogate] | None = None
        self._quality_is_loss = False
        self._bounds: Bounds | None = None

    @classmethod
    def of(cls, context: SamplerContext, **others: Any) -> Self:
        """The sampler of a study; ``others``: what it wants beside its space, its quality and its seed."""
        options = Options.of(context.space, context.layout)
        seed = context.settings.seed
        sampler = cls(options, context.distributions, sign=context.sign, seed=seed, **others)
        sampler._quality_is_loss = context.quality == "loss"
        return sampler

    def keep_within(self, limits: Limits) -> None:
        """Propose no plan beyond ``limits`` from now on."""
        self._bounds = Bounds(self._options, limits)

    @abstractmethod
    def propose(self, study: optuna.Study, number: int, rate: int = NO_RATE) -> Ints:
        """The options of trial ``number``, (num_groups,); ``rate``: the position of its learning rate."""

    def seen(self, study: optuna.Study) -> list[FrozenTrial]:
        """The trials of ``study`` that a proposal goes by."""
        return searched(study.get_trials(deepcopy=False))

    def measured(self, study: optuna.Study, trials: list[FrozenTrial]) -> tuple[Ints, Floats]:
        """Plans, (num_trials, num_groups), and their qualities, turned so that lower is better.

        Where learning rates are searched, as they would be at the one that is expected to be best.
        """
        plans, values, rates = self._reader.measured(trials)
        return plans, self.surrogate(study, trials).at_best_rate(values, rates) if self._rates else values

    def surrogate(self, study: optuna.Study, trials: list[FrozenTrial]) -> Surrogate:
        """The additive model of ``trials``, fitted anew once one more has finished."""
        num_finished = sum(trial.state.is_finished() for trial in trials)
        if self._fitted is None or self._fitted[0] != num_finished:
            observed = self._reader.observations([*trials, *self._swept(study, trials)])
            self._fitted = (num_finished, Surrogate.fit(self._options, observed, stored_probe(study)))
        return self._fitted[1]

    def _swept(self, study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """The sweep's runs at the rates that are searched, where what they measured is the quality."""
        if not self._rates or not self._quality_is_loss:
            return []
        sweep = stored_sweep(study.user_attrs, self._options.space.lora)
        seeds = Counter(trial.user_attrs[SEED] for trial in trials if SEED in trial.user_attrs)
        return as_trials(sweep, self._options.space, seeds.most_common(1)[0][0]) if sweep and seeds else []

    def _rate(self, study: optuna.Study, number: int) -> int:
        """The position of the learning rate of trial ``number``, by Thompson sampling (Biometrika 25, 1933):
        the best one in a draw of what the rates add to all plans."""
        if not self._rates:
            return NO_RATE
        rng = np.random.default_rng((self._seed, number, len(self._rates)))
        mean, covariance = self.surrogate(study, self.seen(study)).rate_offsets()
        return int(np.argmin(rng.multivariate_normal(mean, covariance)))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        rate = self._rate(study, trial.number)
        chosen = self.propose(study, trial.number, rate)
        if self._bounds is not None:
            chosen = self._bounds.within(chosen, np.random.default_rng((self._seed, trial.number)))
        # other workers must see it before its parameters are written one by one
        if rate != NO_RATE:
            show_to_others(study, trial, PROPOSED_RATE, rate)
        show_to_others(study, trial, PROPOSED, chosen.tolist())
        return dict(self._options.params(chosen, rate))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)
