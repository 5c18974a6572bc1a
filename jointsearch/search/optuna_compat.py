"""What samplers use of Optuna that it calls experimental or keeps to itself: an upgrade may break it here.

Multivariate TPE (since Optuna 2.2), heartbeats (2.9, meant for ``Study.optimize`` but working with
ask and tell as well) and names of metrics (3.2) are called experimental.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState


@contextmanager
def experimental_optuna() -> Iterator[None]:
    """Silence Optuna's experimental warnings, and its note on heartbeats, inside the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed", category=UserWarning)
        yield


def show_to_others(study: optuna.Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Store a system attribute of a trial that is being sampled, where other workers see it at once."""
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def generation_of(trial: FrozenTrial | None = None) -> dict[str, int]:
    """System attributes that keep a trial's generation for NSGA-II: the first one for a new trial.

    NSGA-II ignores a trial that was put into the queue without them.
    """
    key = NSGAIISampler._get_generation_key()
    return {key: 0 if trial is None else trial.system_attrs.get(key, 0)}


class FilteredStudy(optuna.Study):
    """A study as a sampler of Optuna's sees it: without the trials that ``keep`` does not keep."""

    def __init__(self, study: optuna.Study, keep: Callable[[FrozenTrial], bool]) -> None:
        self._whole = study
        self._keep = keep

    def __getattr__(self, name: str) -> Any:
        """All but the trials is the study's own."""
        return getattr(object.__getattribute__(self, "_whole"), name)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._whole._get_trials(deepcopy, states, use_cache) if self._keep(trial)]
