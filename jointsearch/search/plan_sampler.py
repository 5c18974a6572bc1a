"""What samplers of ours share: a proposal is a whole plan, and other workers see it at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from jointsearch.search.additive.observed import PROPOSED, TrialReader
from jointsearch.search.additive.options import Options
from jointsearch.search.attributes import STEPS
from jointsearch.search.optuna_compat import show_to_others

if TYPE_CHECKING:
    from jointsearch.search.samplers import SamplerContext


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
        self._distributions = dict(distributions)
        self._reader = TrialReader(options, sign)
        self._seed = seed
        self._random = RandomSampler(seed=seed)

    @classmethod
    def of(cls, context: SamplerContext, **others: Any) -> Self:
        """The sampler of a study; ``others``: what it wants beside its space, its quality and its seed."""
        options = Options.of(context.space, context.layout)
        seed = context.settings.seed
        return cls(options, context.distributions, sign=context.sign, seed=seed, **others)

    @abstractmethod
    def propose(self, study: optuna.Study, number: int) -> NDArray[np.int64]:
        """The options of trial ``number``, (num_groups,)."""

    def seen(self, study: optuna.Study) -> list[FrozenTrial]:
        """The trials of ``study`` that a proposal goes by."""
        return searched(study.get_trials(deepcopy=False))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        chosen = self.propose(study, trial.number)
        # other workers must see it before its parameters are written one by one
        show_to_others(study, trial, PROPOSED, chosen.tolist())
        return dict(self._options.params(chosen))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)
