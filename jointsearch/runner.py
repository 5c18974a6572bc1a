"""What the search asks of a trial: ``run(plan, budget) -> Measurement``. No torch, no Optuna.

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
class Budget:
    """How much a trial may use."""

    seed: int = 0
    should_stop: Callable[[], bool] = lambda: False
    """Asked between steps; a runner then raises ``TrialInterrupted``."""
    at_rung: Callable[[int, float], None] = lambda step, loss: None
    """Told the step and the validation loss along the run; may raise ``TrialPruned``."""


class Runner(Protocol):
    """Trains and measures plans; raises ``TrialFailed`` where a plan has no result."""

    def run(self, plan: Plan, budget: Budget) -> Measurement: ...


@runtime_checkable
class Prober(Protocol):
    """A runner that can score plans without training each."""

    def probe(self, space: SearchSpace, steps: int, budget: Budget) -> Callable[[Plan], float]:
        """Train what all plans of ``space`` share for so many steps; gives a score, lower is better."""
        ...


@runtime_checkable
class Probe(Runner, Protocol):
    """A runner that can also say how sensitive each module is."""

    def sensitivities(self, rank: int) -> Sensitivities:
        """Measured with the study's seed and a uniform adapter of that rank."""
