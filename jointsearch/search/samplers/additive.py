"""``additive``: exact bytes, a quality that is nearly a sum, and a knapsack (``search.additive``)."""

from __future__ import annotations

from jointsearch.search.additive.sampler import AdditiveSampler
from jointsearch.search.samplers import Sampler, SamplerContext, register_sampler


def build(context: SamplerContext) -> AdditiveSampler:
    return AdditiveSampler.of(context, repeats=context.settings.repeats, steps=context.steps)


register_sampler(Sampler("additive", build, uses_probe=True))
