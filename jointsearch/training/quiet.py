"""Silences what libraries print, and tells torch's threads how to wait; imports torch only when called."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO


def quiet_libraries() -> None:
    """Silence progress bars and notes of libraries; errors still raise.

    To be called before torch is imported: its CPU threads then sleep while they wait for each other.
    Spinning, as they do otherwise, is up to twice as fast for a tiny model that has the cores to
    itself, and far slower beside anything else: on two cores a quickstart trial took
    5 seconds alone and 115 beside another one, against 11 and 14 seconds with sleeping threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|torch)\.")
    import datasets
    import huggingface_hub
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    datasets.logging.set_verbosity(logging.CRITICAL)  # it logs what it raises


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence the progress bars of a library that has no switch for them; errors still raise."""
    with redirect_stderr(StringIO()):
        yield


@contextmanager
def ranks_of_parameters() -> Iterator[None]:
    """Silence PEFT where experts have ranks: it looks for the names of their patterns among modules alone,
    says that they are ignored, and goes by them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        yield
