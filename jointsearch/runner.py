"""What the search asks of a trial: ``run(plan, trial) -> Measurement``. No torch, no Optuna.

``FakeRunner`` is a deterministic stand-in that answers at once, for tests and for trying samplers
at thousands of trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jointsearch.measurement import Measurement
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.space import SearchSpace


@dataclass(frozen=True)
class Trial:
    """What a runner is told of the trial that it runs."""

    seed: int = 0
    """Of the order of the batches and the adapters' start."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked between steps; a runner then raises ``TrialInterrupted``."""
    report: Callable[[int, float], None] = lambda step, loss: None
    """Told the step and the validation loss along the run; may raise ``TrialPruned``."""
    number: int | None = None
    """In its study; None where a plan is run outside of one."""


class Runner(Protocol):
    """Trains and measures plans; raises ``TrialFailed`` where a plan has no result."""

    def run(self, plan: Plan, trial: Trial) -> Measurement: ...


@runtime_checkable
class PlanScorer(Protocol):
    """A runner that can score plans without training each."""

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Callable[[Plan], float]:
        """Train what all plans of ``space`` share for so many steps; gives a score, lower is better."""
        ...


@runtime_checkable
class SensitivityProber(Runner, Protocol):
    """A runner that can also say how sensitive each module is."""

    def sensitivities(self, rank: int) -> Sensitivities:
        """Measured with the study's seed and a uniform adapter of that rank."""
