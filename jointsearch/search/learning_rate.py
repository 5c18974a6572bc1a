"""The learning rate of a study's trials: what a sweep over rates has found, for each kind of adapters.

With one alpha for all ranks the best rate hardly depends on the rank (``jointsearch.plan.lora``), so that one
rate serves all plans with the same kind of adapters: that at which the uniform plans of the smallest and the
largest rank lose least against their own best rates. Where their best rates differ after all, or lie at the
edge of what was tried, it is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.record import Record, digest, read_stored
from jointsearch.search.attributes import FAILURE, PLAN, SEED
from jointsearch.space import LEARNING_RATE, SearchSpace

SWEEP_OF = "learning_rate:"
"""Study attribute: the sweep for the adapters with that digest."""

Losses = dict[str, dict[float, float]]
"""By plan and rate; infinite where it has diverged."""


class SweepRun(Record):
    """One trial of a sweep."""

    plan: str
    """The name of the uniform plan."""
    learning_rate: float
    loss: float | None
    """None where it has diverged."""


class Sweep(Record):
    """A sweep, as it is stored with the study: as far as it has come."""

    learning_rate: float | None = None
    """What was found; None of one that is not at its end."""
    runs: tuple[SweepRun, ...] = ()
    rates: tuple[float, ...] = ()
    """That could be tried, rising."""
    seconds: float = 0.0

    @property
    def losses(self) -> Losses:
        found: Losses = {}
        for run in self.runs:
            loss = math.inf if run.loss is None else run.loss
            found.setdefault(run.plan, {})[run.learning_rate] = loss
        return found

    @property
    def best(self) -> dict[str, float]:
        """The best rate of each plan."""
        return {plan: min(losses, key=losses.__getitem__) for plan, losses in self.losses.items()}

    @property
    def notes(self) -> list[str]:
        """What a person should know about the rate."""
        best, found = self.best, self.learning_rate
        notes = []
        if found is not None and len(set(best.values())) > 1:
            each = ", ".join(f"{rate:g} for {plan}" for plan, rate in best.items())
            notes.append(f"the best learning rate depends on the plan: {each}; all are trained at {found:g}")
        if found is not None and found in (self.rates[0], self.rates[-1]):
            notes.append(f"the learning rate {found:g} is at the edge of those that were tried")
        return notes


def sweep(
    plans: Sequence[str], rates: Sequence[float], first: float, loss_of: Callable[[str, float], float]
) -> float:
    """The rate that suits all ``plans``; raises ``ValueError`` where all of them diverge at every rate.

    Each plan's best rate is walked to downhill, the first plan's from ``first``, each further one's from the
    last one's. Of the rates from the lowest of them to the highest, it is that at which the losses exceed
    the plans' best ones least.
    """

    @cache
    def loss_at(plan: str, position: int) -> float:
        return loss_of(plan, rates[position])

    here = min(range(len(rates)), key=lambda position: abs(math.log(rates[position] / first)))
    best: dict[str, int] = {}
    for plan in plans:
        here = best[plan] = _valley(len(rates), here, partial(loss_at, plan))
        if math.isinf(loss_at(plan, here)):
            raise ValueError(f"{plan} diverges at every learning rate down to {rates[0]:g}")
    candidates = range(min(best.values()), max(best.values()) + 1)
    excess = {
        position: sum(loss_at(plan, position) - loss_at(plan, best[plan]) for plan in plans)
        for position in candidates
    }
    return rates[min(candidates, key=excess.__getitem__)]


def _valley(num: int, start: int, loss_at: Callable[[int], float]) -> int:
    """Where no neighbour is lower, downhill from ``start``; what diverges is left to lower rates."""
    here = start
    while here > 0 and math.isinf(loss_at(here)):
        here -= 1
    for step in (1, -1):
        came_from = here
        while 0 <= here + step < num and loss_at(here + step) < loss_at(here):
            here += step
        if here != came_from:
            break
    return here


def as_trials(sweep: Sweep, space: SearchSpace, seed: int | None) -> list[FrozenTrial]:
    """The runs of a sweep over the rates that ``space`` searches, as trials with ``seed``.

    Their numbers are below 0, so that none is a trial's. What no longer fits the space is left out.
    """
    kinds: dict[str, BaseDistribution] = {
        name: IntDistribution(0, len(choices) - 1) for name, choices in space.parameters.items()
    }
    uniform = {baseline.origin.name: baseline for baseline in space.baselines()}
    found = []
    for number, run in enumerate(sweep.runs, 1):
        if run.plan not in uniform or run.learning_rate not in space.learning_rates:
            continue
        baseline = uniform[run.plan]
        params = {**baseline.params, LEARNING_RATE: space.learning_rates.index(run.learning_rate)}
        trial = create_trial(
            state=TrialState.FAIL if run.loss is None else TrialState.COMPLETE,
            value=run.loss,
            params=params,
            distributions=kinds,
            user_attrs={
                PLAN: baseline.plan.at(run.learning_rate).model_dump(mode="json"),
                SEED: seed,
                **({FAILURE: "diverged"} if run.loss is None else {}),
            },
        )
        trial.number = -number
        found.append(trial)
    return found


def stored_sweep(attributes: Mapping[str, Any], lora: LoraSettings) -> Sweep | None:
    """The sweep for these adapters among a study's user attributes, as far as it has come."""
    stored = attributes.get(attribute_of(lora))
    return None if stored is None else read_stored(Sweep, stored, "the sweep over learning rates")


def attribute_of(lora: LoraSettings) -> str:
    return f"{SWEEP_OF}{digest(lora.model_dump(mode='json'))}"
