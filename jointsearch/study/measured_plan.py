"""A plan with all the trials that have measured it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from jointsearch.measurement import Measurement
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import Plan
from jointsearch.study.trial_record import TrialRecord


@dataclass(frozen=True)
class MeasuredPlan:
    """A plan with its complete trials, one per seed: a point of the front, with means and errors."""

    trials: tuple[TrialRecord, ...]
    """By number."""
    offsets: Mapping[str, Mapping[int | None, float]] = field(default_factory=dict)
    """By objective: what a seed adds to every plan's value."""

    @property
    def number(self) -> int:
        """The trial that measured the plan first: the name of the point."""
        return self.trials[0].number

    @property
    def digest(self) -> str:
        return self.trials[0].digest

    @property
    def origin(self) -> Origin:
        """Of the trial that measured it first: who asks for the plan again does not rename the point."""
        return self.trials[0].origin

    @property
    def searched(self) -> bool:
        """Whether the search has measured it, not only a person who asked for it."""
        return any(trial.searched for trial in self.trials)

    @property
    def plan(self) -> Plan:
        return self.trials[0].plan

    @property
    def trained_plan(self) -> Plan:
        """The plan with the ranks that the first trial has ended with, where they adapt."""
        return self.plan.ending_with(self.measurement.ranks)

    @property
    def measurement(self) -> Measurement:
        """Of the first trial."""
        return self.trials[0].measurement

    @cached_property
    def values(self) -> dict[str, float]:
        """Mean over the seeds, by objective; of the quality less what the seeds add to all plans."""
        return {name: statistics.fmean(self._levelled(name)) for name in self.trials[0].objectives}

    def standard_error(self, objective: str) -> float | None:
        """Of the mean over the seeds; None where there is one seed alone."""
        if len(self.trials) < 2:
            return None
        values = self._levelled(objective)
        return statistics.stdev(values) / math.sqrt(len(values))

    def _levelled(self, objective: str) -> list[float]:
        """The value of each trial less the offset of its seed."""
        offsets = self.offsets.get(objective, {})
        return [trial.values[objective] - offsets.get(trial.seed, 0.0) for trial in self.trials]
