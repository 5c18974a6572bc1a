"""All use of Optuna's storage, its internals and its tables."""
