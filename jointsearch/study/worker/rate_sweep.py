"""A sweep over learning rates, before the first plan with its kind of adapters is trained: once in a study.

One worker sweeps, the others wait. What it has measured is stored run by run; another can go on from there.
"""

from __future__ import annotations

import math
import time

from jointsearch.config.training import FIRST_LEARNING_RATE
from jointsearch.errors import StudyError, TrialFailed, TrialInterrupted
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.measurement import Measurement
from jointsearch.plan.formats import UNQUANTIZED
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.runner import Runner, TakesLearningRate, Trial
from jointsearch.search.learning_rate import Sweep, SweepRun, attribute_of, stored_sweep, sweep
from jointsearch.study.storage.locks import try_study_lock
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.events import worker_event
from jointsearch.study.worker.loop import WorkLoop


def learning_rate_for(study: StoredStudy, runner: Runner, plan: Plan, loop: WorkLoop) -> float | None:
    """The rate to train ``plan`` at; None where the study or the runner says it, or nothing is trained.

    Raises ``TrialInterrupted`` where the worker is to stop meanwhile.
    """
    searched = bool(study.space.learning_rates)
    if searched and not isinstance(runner, TakesLearningRate):
        raise StudyError(
            "search_space.learning_rates need a runner that trains at Trial.learning_rate, but got "
            f"{type(runner).__name__}; leave them out"
        )
    if plan.learning_rate is not None:
        return plan.learning_rate
    given = study.config.calibration.learning_rate
    if given != "auto":
        return given if searched else None
    if not (searched or study.trains(plan)):
        return None
    if not isinstance(runner, TakesLearningRate):
        return None
    while not loop.stopping:
        if (found := study.learning_rate(plan.lora)) is not None:
            return found
        with try_study_lock(study.optuna_study, "learning rate") as mine:
            if mine:
                return RateSweep(study, runner, plan.lora, loop).run()
        loop.wait()
    raise TrialInterrupted("stopped while the learning rate was looked for")


class RateSweep:
    """One sweep, for the adapters of one kind; who makes it holds its lock."""

    def __init__(self, study: StoredStudy, runner: Runner, lora: LoraSettings, loop: WorkLoop) -> None:
        assert isinstance(runner, TakesLearningRate)
        self._study = study
        self._runner = runner
        self._lora = lora
        self._loop = loop
        self._rates = study.space.learning_rates or runner.learning_rates
        self._plans = uniform_plans(study, lora)
        self._found = Sweep(rates=self._rates)

    def run(self) -> float:
        """Sweep, or go on with what another worker has left; raises ``StudyError`` where all diverge."""
        attributes = self._loop.outlast(lambda: self._study.optuna_study.user_attrs)
        self._found = stored_sweep(attributes or {}, self._lora) or self._found
        if self._found.learning_rate is not None:
            return self._found.learning_rate
        worker_event("learning rate sweep started", self._study.name)
        try:
            rate = sweep(list(self._plans), self._rates, FIRST_LEARNING_RATE, self._loss_of)
        except ValueError as error:
            raise StudyError(
                f"calibration.learning_rate: auto must find a rate, but {error}; "
                f"{self._fix}, or lower lora.alpha"
            ) from None
        self._keep(learning_rate=rate)
        worker_event("learning rate sweep complete", self._study.name, learning_rate=rate)
        return rate

    @property
    def _fix(self) -> str:
        return (
            "list lower search_space.learning_rates"
            if self._study.space.learning_rates
            else "give it a number"
        )

    def _loss_of(self, name: str, rate: float) -> float:
        known = self._found.losses.get(name, {})
        if rate not in known:
            began = time.monotonic()
            loss = self._trained(self._plans[name], rate)
            run = SweepRun(plan=name, learning_rate=rate, loss=loss)
            seconds = self._found.seconds + time.monotonic() - began
            self._keep(runs=(*self._found.runs, run), seconds=round(seconds, 3))
            known = self._found.losses[name]
        return known[rate]

    def _trained(self, plan: Plan, rate: float) -> float | None:
        """The loss of ``plan`` at that rate; None where it has diverged."""
        if self._loop.stopping:
            raise TrialInterrupted("stopped while the learning rate was looked for")
        seed = self._study.config.calibration.seed
        trial = Trial(seed, lambda: self._loop.stopping, rungs=False, learning_rate=rate)
        try:
            measured = self._runner.run(plan.within(self._study.context), trial)
        except TrialFailed:
            return None
        loss = _loss(measured, self._study.config.quality)
        return loss if math.isfinite(loss) else None

    def _keep(self, **found: object) -> None:
        self._found = self._found.model_copy(update=found)
        value = self._found.model_dump(mode="json")
        self._loop.outlast(lambda: self._study.optuna_study.set_user_attr(attribute_of(self._lora), value))


def uniform_plans(study: StoredStudy, lora: LoraSettings) -> dict[str, Plan]:
    """The smallest and the largest trained rank at the coarsest format of the space, by their names."""
    space = study.space
    weight_format = next(
        (name for name in study.config.search_space.format_choices if lora.supports(name)), UNQUANTIZED
    )
    ranks = space.trained_ranks
    baselines = [space.uniform_baseline(weight_format, rank) for rank in sorted({ranks[0], ranks[-1]})]
    return {entry.origin.name: entry.plan.model_copy(update={"lora": lora}) for entry in baselines}


def _loss(measured: Measurement, quality: str) -> float:
    """What a runner calls its loss; else its quality, turned so that lower is better."""
    return measured.metrics.get("loss", OBJECTIVES[quality].sign * measured.value(quality))
