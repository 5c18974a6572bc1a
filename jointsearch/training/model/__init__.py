"""The model of a trial: architecture, weights, adapters."""
