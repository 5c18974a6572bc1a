"""A sampler: parameter i of trial n has the choice (n + i) modulo how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from jointsearch.search.samplers import Sampler, register_sampler


class RoundRobin(BaseSampler):
    def __init__(self, space: Mapping[str, IntDistribution]) -> None:
        self._space = dict(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        highs = [choices.high for choices in self._space.values()]
        return {
            name: (trial.number + i) % (high + 1)
            for i, (name, high) in enumerate(zip(search_space, highs, strict=True))
        }

    def sample_independent(self, *args: Any) -> Any:
        raise AssertionError("all parameters are proposed at once")


register_sampler(Sampler("round-robin", lambda context: RoundRobin(context.distributions)))
