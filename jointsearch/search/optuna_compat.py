"""What Optuna calls experimental and this project builds on, without a warning at every use.

Multivariate TPE (since Optuna 2.2), heartbeats (2.9, meant for ``Study.optimize`` but working with
ask and tell as well) and names of metrics (3.2).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import ExperimentalWarning


@contextmanager
def experimental_optuna() -> Iterator[None]:
    """Silence Optuna's experimental warnings, and its note on heartbeats, inside the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed", category=UserWarning)
        yield
