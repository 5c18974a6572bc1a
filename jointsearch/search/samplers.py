"""Builds a sampler by name, set for studies of some dozen ordinal parameters and few trials."""

from __future__ import annotations

from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from jointsearch.config.study import SearchSettings
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.layout import ModelLayout
from jointsearch.search.in_space import InSpace
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.space import SearchSpace

MAX_POPULATION = 50
NUM_RANDOM = 10
"""Trials without a model before TPE and GP begin, enqueued plans included."""


def build_sampler(
    settings: SearchSettings,
    space: SearchSpace,
    layout: ModelLayout,
    quality: str,
    *,
    num_enqueued: int = 0,
    num_existing: int = 0,
) -> BaseSampler:
    """The sampler named in the study file, for trials whose first objective is ``quality``.

    The seed of a sampler of Optuna's depends on how many trials the study has already: a resumed study
    must not repeat the proposals that it began with.
    """
    if settings.sampler in ("additive", "qr-adaptor"):
        # here, because commands that only read a study should not wait for SciPy
        from jointsearch.search.additive.options import Options
        from jointsearch.search.additive.sampler import AdditiveSampler
        from jointsearch.search.qr_adaptor import QRAdaptorSampler

        options, choices, sign = Options.of(space, layout), distributions(space), OBJECTIVES[quality].sign
        if settings.sampler == "qr-adaptor":
            return QRAdaptorSampler(options, choices, sign=sign, seed=settings.seed, trials=settings.trials)
        return AdditiveSampler(options, choices, sign=sign, seed=settings.seed, repeats=settings.repeats)
    seed = (settings.seed * 1_000_003 + num_existing) % 2**32
    with experimental_optuna():
        return InSpace(_of_optuna(settings, seed, num_enqueued), distributions(space))


def _of_optuna(settings: SearchSettings, seed: int, num_enqueued: int) -> BaseSampler:
    match settings.sampler:
        case "nsga2":
            population = max(num_enqueued, 4, min(MAX_POPULATION, settings.trials // 4))
            return NSGAIISampler(population_size=population, seed=seed)
        case "tpe":
            return TPESampler(multivariate=True, n_startup_trials=NUM_RANDOM, seed=seed)
        case "gp":
            return GPSampler(n_startup_trials=NUM_RANDOM, seed=seed)
        case _:
            return RandomSampler(seed=seed)


def distributions(space: SearchSpace) -> dict[str, IntDistribution]:
    """One ordinal per parameter: the position in its sorted choices."""
    return {name: IntDistribution(0, len(choices) - 1) for name, choices in space.parameters.items()}
