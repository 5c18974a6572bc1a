"""``nsga2``: Deb et al., NSGA-II, IEEE TEC 6(2), 2002, by Optuna; its first generation is enqueued."""

from __future__ import annotations

from optuna.samplers import NSGAIISampler

from jointsearch.search.samplers import Sampler, SamplerContext, register_sampler

MAX_POPULATION = 20
"""With 50 a study of 200 trials would have four generations: see studies/benchmarks/samplers.md."""


def build(context: SamplerContext) -> NSGAIISampler:
    population = max(context.num_enqueued, 4, min(MAX_POPULATION, context.settings.trials // 4))
    return NSGAIISampler(population_size=population, seed=context.seed)


register_sampler(Sampler("nsga2", build))
