"""``random``: every choice of every group alike; what a search must beat."""

from __future__ import annotations

from optuna.samplers import RandomSampler

from jointsearch.search.samplers import Sampler, SamplerContext, register_sampler


def build(context: SamplerContext) -> RandomSampler:
    return RandomSampler(seed=context.seed)


register_sampler(Sampler("random", build))
