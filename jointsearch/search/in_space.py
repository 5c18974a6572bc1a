"""Lets Optuna's samplers work in a study that has plans from outside of the search space.

Such a trial has no parameters. Optuna searches the parameters that all trials have in common, so that a
single one would leave nothing to search together; NSGA-II could choose it as a parent and find no genes.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState


class InSpace(BaseSampler):
    """A sampler of Optuna's over a fixed space, which sees the trials that have all of its parameters."""

    def __init__(self, inner: BaseSampler, space: Mapping[str, IntDistribution]) -> None:
        self.inner = inner
        self._space = dict(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(_Seen(study, self._space), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        seen = _Seen(study, self._space)
        return self.inner.sample_independent(seen, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(_Seen(study, self._space), trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if _has_all(trial, self._space):
            self.inner.after_trial(_Seen(study, self._space), trial, state, values)


class _Seen(optuna.Study):
    """A study without its finished trials that lack a parameter."""

    def __init__(self, study: optuna.Study, space: Mapping[str, IntDistribution]) -> None:
        self.__dict__.update(study.__dict__)
        self._seen_space = space

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [t for t in trials if not t.state.is_finished() or _has_all(t, self._seen_space)]


def _has_all(trial: FrozenTrial, space: Mapping[str, IntDistribution]) -> bool:
    return space.keys() <= trial.params.keys()
