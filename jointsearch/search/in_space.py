"""Lets Optuna's samplers work in a study that has plans from outside of the search space.

Such a trial has no parameters. Optuna searches the parameters that all trials have in common, so that a
single one would leave nothing to search together; NSGA-II could choose it as a parent and find no genes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from jointsearch.search.optuna_compat import FilteredStudy


def _as_it_is(params: dict[str, Any], number: int) -> dict[str, Any]:
    return params


class InSpace(BaseSampler):
    """A sampler of Optuna's over a fixed space, which sees the trials that have all of its parameters.

    Finals have none, so that nothing is learned from what trained for longer.
    """

    def __init__(
        self,
        inner: BaseSampler,
        space: Mapping[str, IntDistribution],
        within: Callable[[dict[str, Any], int], dict[str, Any]] = _as_it_is,
    ) -> None:
        """``within``: the parameters of a plan that fits the study's limits, for those of a proposal and the
        number of its trial."""
        self.inner = inner
        self._within = within
        self._space = dict(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        proposed = self.inner.sample_relative(self._seen(study), trial, search_space)
        missing = {
            name: self.inner.sample_independent(self._seen(study), trial, name, distribution)
            for name, distribution in search_space.items()
            if name not in proposed and self._within is not _as_it_is
        }
        return self._within(proposed | missing, trial.number)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.inner.sample_independent(self._seen(study), trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(self._seen(study), trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if _has_all(trial, self._space):
            self.inner.after_trial(self._seen(study), trial, state, values)

    def _seen(self, study: optuna.Study) -> optuna.Study:
        """The study without its finished trials that lack a parameter."""
        return FilteredStudy(study, lambda t: not t.state.is_finished() or _has_all(t, self._space))


def _has_all(trial: FrozenTrial, space: Mapping[str, IntDistribution]) -> bool:
    return space.keys() <= trial.params.keys()
