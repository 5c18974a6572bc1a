"""``gp``: Gaussian processes by Optuna; seconds a trial from some dozen parameters and 100 trials on."""

from __future__ import annotations

from optuna.samplers import GPSampler

from jointsearch.search.samplers import NUM_RANDOM, Sampler, SamplerContext, register_sampler


def build(context: SamplerContext) -> GPSampler:
    return GPSampler(n_startup_trials=NUM_RANDOM, seed=context.seed)


register_sampler(Sampler("gp", build))
