"""``tpe``: Bergstra et al., TPE, NeurIPS 2011, by Optuna; multivariate, which several objectives need."""

from __future__ import annotations

from optuna.samplers import TPESampler

from jointsearch.search.samplers import NUM_RANDOM, Sampler, SamplerContext, register_sampler


def build(context: SamplerContext) -> TPESampler:
    return TPESampler(multivariate=True, n_startup_trials=NUM_RANDOM, seed=context.seed)


register_sampler(Sampler("tpe", build))
