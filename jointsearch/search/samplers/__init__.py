"""Samplers by name, one file each: how the next plan is proposed.

A sampler is any of Optuna's interface. One that is no ``PlanSampler`` proposes parameters, and is shown the
trials that have all of them (``search.in_space``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler

from jointsearch.config.names import SAMPLERS
from jointsearch.config.search import SearchSettings
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.limits import Limits
from jointsearch.search.in_space import InSpace
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.space import SearchSpace

NUM_RANDOM = 10
"""Trials without a model before TPE and GP begin, enqueued plans included."""


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler is made for: a study, and what it has already."""

    settings: SearchSettings
    space: SearchSpace
    layout: ModelLayout
    quality: str
    """The first objective."""
    num_enqueued: int = 0
    """Plans that are tried first."""
    num_existing: int = 0
    """Trials that the study has."""
    steps: tuple[int, int] | None = None
    """Of a trial, and of the finals that plans are proposed for; None without finals."""

    @property
    def sign(self) -> int:
        """Of the quality: +1 where lower is better."""
        return OBJECTIVES[self.quality].sign

    @property
    def distributions(self) -> dict[str, IntDistribution]:
        return distributions(self.space)

    @property
    def seed(self) -> int:
        """For a sampler that counts its proposals: a resumed study must not repeat those that it began with.

        One whose proposals depend on the trial's number takes ``settings.seed``.
        """
        return (self.settings.seed * 1_000_003 + self.num_existing) % 2**32


@dataclass(frozen=True)
class Sampler:
    """A way to propose plans."""

    name: str
    """As study files call it: ``search.sampler``."""
    build: Callable[[SamplerContext], BaseSampler]
    uses_probe: bool = False
    """Whether it wants what ``search.probe`` measures before the first proposal."""


def register_sampler(sampler: Sampler) -> Sampler:
    """Make a sampler known by its name, for ``search.sampler`` of study files."""
    registered: Sampler = SAMPLERS.register(sampler)
    return registered


def build_sampler(
    settings: SearchSettings,
    space: SearchSpace,
    layout: ModelLayout,
    quality: str,
    *,
    num_enqueued: int = 0,
    num_existing: int = 0,
    steps: tuple[int, int] | None = None,
    limits: Limits | None = None,
) -> BaseSampler:
    """The sampler named in the study file, for trials whose first objective is ``quality``; it proposes no
    plan beyond ``limits``."""
    from jointsearch.search.additive.options import Options
    from jointsearch.search.bounds import Bounds
    from jointsearch.search.plan_sampler import PlanSampler  # needs SciPy, which no reader waits for

    context = SamplerContext(settings, space, layout, quality, num_enqueued, num_existing, steps)
    with experimental_optuna():
        sampler = SAMPLERS[settings.sampler].build(context)
    if isinstance(sampler, PlanSampler):
        if limits and limits.any:
            sampler.keep_within(limits)
        return sampler
    if limits is None or not limits.any:
        return InSpace(sampler, context.distributions)
    bounds = Bounds(Options.of(space, layout), limits)

    def within(params: dict[str, Any], number: int) -> dict[str, Any]:
        chosen = bounds.within(bounds.options.chosen(params), np.random.default_rng((settings.seed, number)))
        return {**params, **bounds.options.params(chosen)}

    return InSpace(sampler, context.distributions, within)


def distributions(space: SearchSpace) -> dict[str, IntDistribution]:
    """One ordinal per parameter: the position in its sorted choices."""
    return {name: IntDistribution(0, len(choices) - 1) for name, choices in space.parameters.items()}
