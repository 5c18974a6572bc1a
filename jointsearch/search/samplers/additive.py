"""``additive``: exact bytes, a quality that is nearly a sum, and a knapsack (``search.additive``)."""

from __future__ import annotations

from jointsearch.search.additive.options import Options
from jointsearch.search.additive.sampler import AdditiveSampler
from jointsearch.search.samplers import Sampler, SamplerContext, register_sampler


def build(context: SamplerContext) -> AdditiveSampler:
    options = Options.of(context.space, context.layout)
    settings = context.settings
    return AdditiveSampler(
        options,
        context.distributions,
        sign=context.sign,
        seed=settings.seed,
        repeats=settings.repeats,
        steps=context.steps,
    )


register_sampler(Sampler("additive", build, uses_probe=True))
