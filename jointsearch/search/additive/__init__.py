"""The additive sampler: a Bayesian model of a sum, and a knapsack over bytes."""
