"""What the search asks of a trial: ``run(plan, trial) -> Measurement``. No torch, no Optuna.

Whoever trains with something else than this package writes a class with that one method. It is told the plan,
which knows the model's layout and the study (``plan.context``). ``jointsearch.testing.FakeRunner`` is a
deterministic stand-in that answers at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jointsearch.measurement import FullRunResult, Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.space import SearchSpace

if TYPE_CHECKING:
    from jointsearch.config.study import StudyConfig


@dataclass(frozen=True)
class Trial:
    """What a runner is told of the trial that it runs."""

    seed: int = 0
    """Of the order of the batches and the adapters' start."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked between steps; a runner then raises ``TrialInterrupted``."""
    report: Callable[[int, float], None] = lambda step, loss: None
    """Told the step and the validation loss along the run; may raise ``TrialPruned``."""
    rungs: bool = True
    """Whether losses along the run are wanted; a runner may save itself the trouble where they are not."""
    learning_rate: float | None = None
    """In place of the study's, where that is ``auto``."""
    steps: int | None = None
    """In place of the study's ``calibration.steps``: of a final (``jointsearch.study.finals``)."""
    number: int | None = None
    """In its study; None where a plan is run outside of one."""


class Runner(Protocol):
    """Trains and measures plans: to be subclassed, or any object with such a method."""

    @abstractmethod
    def run(self, plan: Plan, trial: Trial) -> Measurement:
        """Train and measure ``plan``; raises ``TrialFailed`` where it has no result.

        ``Measurement.metrics`` must have the study's quality; what the plan weighs need not be said.
        """
        ...


@runtime_checkable
class KnowsLayout(Protocol):
    """A runner that says which modules its model has, so that nobody needs to read the model."""

    def layout(self, config: StudyConfig) -> ModelLayout | None:
        """The layout of the study's model; None where it is to be read from ``config.model``."""
        ...


@runtime_checkable
class KnowsSettings(Protocol):
    """A runner that says what a study should keep of it."""

    def settings(self) -> dict[str, Any]:
        """Sections of a study: ``task`` of type ``custom``, and what of ``calibration`` it fixes.

        A study goes on with a runner of the same settings alone.
        """
        ...


@runtime_checkable
class TrainsInFull(Protocol):
    """A runner that can also train a plan in full, and measure what it has trained."""

    def train_in_full(
        self,
        plan: Plan,
        output: Path,
        *,
        resume: bool,
        listener: Callable[[int, int, dict[str, float]], None],
    ) -> FullRunResult:
        """Train into the folder ``output``, which must be empty or, with ``resume``, an unfinished run's.

        ``listener`` is told the step, the number of steps and what is logged.
        """
        ...

    @property
    def num_evaluated(self) -> int:
        """How many examples ``evaluate_run`` measures on."""
        ...

    def evaluate_run(self, folder: Path) -> FullRunResult:
        """Measure what ``train_in_full`` has left in ``folder``; ``validation`` holds what was found."""
        ...


@runtime_checkable
class TakesSteps(Protocol):
    """A runner that trains for ``Trial.steps``, so that a study can have finals."""

    takes_steps: bool


@runtime_checkable
class TakesLearningRate(Protocol):
    """A runner that trains at ``Trial.learning_rate``, so that a study can sweep over rates."""

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Those that a sweep may try, rising."""
        ...


@runtime_checkable
class PlanScorer(Protocol):
    """A runner that can score plans without training each."""

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Callable[[Plan], float]:
        """Train what all plans of ``space`` share for so many steps; gives a score, lower is better."""
        ...


@runtime_checkable
class SensitivityProber(Runner, Protocol):
    """A runner that can also say how sensitive each module is."""

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        """Of the modules of ``layout``, with the study's seed and a uniform adapter of that rank."""
