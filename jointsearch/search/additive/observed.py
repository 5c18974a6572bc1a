"""What the trials of a study say to the surrogate: features, qualities, seeds, and which plans are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from jointsearch.plan.cost import plan_cost
from jointsearch.plan.plan import Plan
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.surrogate import Observations
from jointsearch.search.attributes import EXPECTED, FAILURE, PLAN, SEED
from jointsearch.space import LEARNING_RATE

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PROPOSED = "additive:options"
"""The system attribute of a trial whose parameters are being written: the option of every group."""
PROPOSED_RATE = "additive:rate"
"""Likewise: the position of its learning rate, where these are searched."""


@dataclass
class TrialReader:
    """Reads trials, and keeps what it has read of finished ones: a plan takes a millisecond."""

    options: Options
    sign: int
    """Of the quality objective: ``sign * value`` is minimized."""
    _chosen: dict[int, Ints | None] = field(default_factory=dict)
    _outside: dict[int, _Outside] = field(default_factory=dict)

    def observations(self, trials: Sequence[FrozenTrial]) -> Observations:
        """The complete trials, one per plan and seed; copies say nothing new.

        A trial that was stopped early counts with the quality that it was expected to reach. Where learning
        rates are searched, one that has diverged is as far beyond the worst as that is from the best: else a
        rate at which all plans diverge would look unknown for ever.
        """
        rows: list[_Row] = []
        seen: set[tuple[bytes, int, int | None]] = set()
        for trial in trials:
            if _quality(trial) is None and not self._diverged(trial):
                continue
            row = self._row(trial)
            if row is not None and (row.key, row.rate, row.seed) not in seen:
                seen.add((row.key, row.rate, row.seed))
                rows.append(row)
        chosen = [row.chosen for row in rows if row.chosen is not None]
        inside = np.array(chosen, dtype=np.int64).reshape(len(chosen), len(self.options.groups))
        is_inside = np.array([row.chosen is not None for row in rows], dtype=bool)
        design = np.empty((len(rows), int(self.options.offsets[-1])))
        sizes = np.empty(len(rows), dtype=np.int64)
        design[is_inside], sizes[is_inside] = self.options.design(inside), self.options.model_bytes(inside)
        for number in np.flatnonzero(~is_inside):
            read = self._outside[rows[number].trial.number]
            design[number], sizes[number] = read.features, read.model_bytes
        seeds = Counter(row.seed for row in rows)
        codes = {seed: code for code, (seed, _) in enumerate(seeds.most_common())}
        known = dict.fromkeys((row.key, row.rate) for row in rows)
        numbers = {key: number for number, key in enumerate(known)}
        values = np.array([_quality(row.trial) for row in rows], dtype=float) * self.sign  # None: NaN
        return Observations(
            design=design,
            values=_filled(values),
            seeds=np.array([codes[row.seed] for row in rows], dtype=np.int64),
            plans=np.array([numbers[row.key, row.rate] for row in rows], dtype=np.int64),
            model_bytes=sizes,
            rates=np.array([row.rate for row in rows], dtype=np.int64),
        )

    def measured(self, trials: Sequence[FrozenTrial]) -> tuple[Ints, Floats, Ints]:
        """Plans of the space, (num_trials, num_groups), their qualities, and the positions of their rates.

        Lower qualities are better. A trial that was stopped early has the one that it was expected to reach.
        """
        found = [
            (chosen, quality, self.rate(trial))
            for trial in trials
            if (quality := _quality(trial)) is not None and (chosen := self.chosen(trial)) is not None
        ]
        plans = np.array([chosen for chosen, _, _ in found], dtype=np.int64)
        values = self.sign * np.array([quality for _, quality, _ in found], dtype=float)
        rates = np.array([rate for _, _, rate in found], dtype=np.int64)
        return plans.reshape(len(found), len(self.options.groups)), values, rates

    def proposed(self, trials: Sequence[FrozenTrial], rate: int = NO_RATE) -> Counter[bytes]:
        """How many trials, in whatever state, each plan of the space has at that learning rate; by ``key_of``
        its options."""
        chosen = (self.chosen(trial) for trial in trials if self.rate(trial) == rate)
        return Counter(key_of(options) for options in chosen if options is not None)

    def rate(self, trial: FrozenTrial) -> int:
        """The position of a trial's learning rate among those that are searched; ``NO_RATE`` of others."""
        rates = self.options.space.learning_rates
        if not rates:
            return NO_RATE
        if PLAN not in trial.user_attrs:
            return int(trial.system_attrs.get(PROPOSED_RATE, NO_RATE))
        rate = trial.user_attrs[PLAN].get(LEARNING_RATE)
        return rates.index(rate) if rate in rates else NO_RATE

    def chosen(self, trial: FrozenTrial) -> Ints | None:
        """The options of a trial; None for a plan from outside of the space, or not proposed yet."""
        if trial.number in self._chosen:
            return self._chosen[trial.number]
        chosen = None
        values = trial.params or self._values_of_plan(trial)
        if values.keys() - {LEARNING_RATE} == self._parameters:
            chosen = self.options.chosen(values)
        elif trial.state == TrialState.RUNNING and PROPOSED in trial.system_attrs:
            chosen = np.array(trial.system_attrs[PROPOSED], dtype=np.int64)
        if trial.state.is_finished():
            self._chosen[trial.number] = chosen
        return chosen

    def _diverged(self, trial: FrozenTrial) -> bool:
        """Whether it says of a learning rate, where these are searched, that it is too high."""
        failed = trial.state == TrialState.FAIL and bool(self.options.space.learning_rates)
        return failed and str(trial.user_attrs.get(FAILURE, "")).startswith("diverged")

    def _values_of_plan(self, trial: FrozenTrial) -> dict[str, int]:
        """The parameters of a trial that was read without them; none for a plan from outside of the space."""
        if PLAN not in trial.user_attrs:
            return {}
        return self.options.space.params_of(Plan.model_validate(trial.user_attrs[PLAN])) or {}

    @cached_property
    def _parameters(self) -> frozenset[str]:
        return frozenset(self.options.space.group_parameters)

    def _row(self, trial: FrozenTrial) -> _Row | None:
        seed = trial.user_attrs.get(SEED)
        chosen = self.chosen(trial)
        if chosen is not None:
            return _Row(trial, key_of(chosen), self.rate(trial), seed, chosen)
        if PLAN not in trial.user_attrs:
            return None
        if trial.number not in self._outside:
            plan = Plan.model_validate(trial.user_attrs[PLAN])
            cost = plan_cost(self.options.layout, plan)
            self._outside[trial.number] = _Outside(
                plan.at(None).digest.encode(), self.options.features_of(plan), cost.model_bytes
            )
        return _Row(trial, self._outside[trial.number].key, self.rate(trial), seed, None)


def _quality(trial: FrozenTrial) -> float | None:
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    return trial.user_attrs.get(EXPECTED) if trial.state == TrialState.PRUNED else None


def _filled(values: Floats) -> Floats:
    """``values`` with a bad one in place of those that are NaN; without any others all are 0."""
    known = values[~np.isnan(values)]
    bad = 2 * known.max() - known.min() if len(known) else 0.0
    return np.where(np.isnan(values), bad, values)


@dataclass(frozen=True)
class _Outside:
    """A plan from outside of the space."""

    key: bytes
    features: Floats
    model_bytes: int


@dataclass(frozen=True)
class _Row:
    trial: FrozenTrial
    key: bytes
    rate: int
    seed: int | None
    chosen: Ints | None


def key_of(chosen: Ints) -> bytes:
    """What two plans of the space share only if they are the same."""
    return chosen.astype(np.int64).tobytes()
