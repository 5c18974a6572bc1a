"""What a study keeps in Optuna's storage beside parameters and values, and how it is read back.

A study has the user attributes ``config``, ``layout`` and ``selection``; a trial has ``plan``,
``digest`` and ``label`` from the start, and ``measurement`` or ``failure`` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from jointsearch.objectives import OBJECTIVES
from jointsearch.pareto import hypervolume, is_on_front
from jointsearch.plan import Plan
from jointsearch.runner import Measurement
from jointsearch.selection import FrontPoint

CONFIG = "config"
LAYOUT = "layout"
SELECTION = "selection"

PLAN = "plan"
DIGEST = "digest"
LABEL = "label"
MEASUREMENT = "measurement"
FAILURE = "failure"
RETRY_OF = "retry_of"
COPY_OF = "copy_of"

PLAN_ATTRIBUTES = (PLAN, DIGEST, LABEL)
"""What a trial knows before it runs."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the rest of jointsearch sees it; plan and measurement are parsed when asked for."""

    frozen: FrozenTrial
    objectives: tuple[str, ...]

    @property
    def number(self) -> int:
        return self.frozen.number

    @property
    def state(self) -> TrialState:
        return self.frozen.state

    @property
    def values(self) -> dict[str, float]:
        """Value by objective; empty until the trial is complete."""
        return dict(zip(self.objectives, self.frozen.values or (), strict=False))

    @property
    def label(self) -> str:
        return str(self._attributes.get(LABEL, ""))

    @property
    def digest(self) -> str:
        return str(self._attributes.get(DIGEST, ""))

    @property
    def failure(self) -> str:
        return str(self._attributes.get(FAILURE, ""))

    @property
    def seconds(self) -> float | None:
        return None if self.frozen.duration is None else self.frozen.duration.total_seconds()

    @cached_property
    def plan(self) -> Plan:
        return Plan.model_validate(self._attributes[PLAN])

    @cached_property
    def measurement(self) -> Measurement:
        return Measurement.model_validate(self._attributes[MEASUREMENT])

    @property
    def _attributes(self) -> dict[str, Any]:
        return self.frozen.user_attrs


@dataclass(frozen=True)
class StudyRecords:
    """All trials of a study at one moment."""

    objectives: tuple[str, ...]
    trials: tuple[TrialRecord, ...]

    @classmethod
    def of(cls, objectives: Sequence[str], trials: Sequence[FrozenTrial]) -> StudyRecords:
        names = tuple(objectives)
        return cls(names, tuple(TrialRecord(trial, names) for trial in trials))

    @cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        return self._in_state(TrialState.COMPLETE)

    @cached_property
    def running(self) -> tuple[TrialRecord, ...]:
        return self._in_state(TrialState.RUNNING)

    @cached_property
    def waiting(self) -> tuple[TrialRecord, ...]:
        return self._in_state(TrialState.WAITING)

    @cached_property
    def failed(self) -> tuple[TrialRecord, ...]:
        """Failed for good: a trial that was given back to the queue counts as its successor."""
        retried = {trial.frozen.user_attrs.get(RETRY_OF) for trial in self.trials}
        return tuple(t for t in self._in_state(TrialState.FAIL) if t.number not in retried)

    @property
    def num_finished(self) -> int:
        return len(self.complete) + len(self.failed)

    @cached_property
    def front(self) -> tuple[TrialRecord, ...]:
        """Complete trials that no other dominates, by rising bytes; of equal plans the first."""
        unique = {trial.digest: trial for trial in reversed(self.complete)}
        candidates = sorted(unique.values(), key=lambda trial: trial.number)
        on_front = is_on_front([self._signed(trial) for trial in candidates])
        front = [trial for trial, keep in zip(candidates, on_front, strict=True) if keep]
        return tuple(sorted(front, key=lambda trial: (trial.measurement.model_bytes, trial.number)))

    @property
    def front_points(self) -> list[FrontPoint]:
        return [
            FrontPoint(trial.number, trial.values[self.objectives[0]], trial.measurement.model_bytes)
            for trial in self.front
        ]

    @property
    def baselines(self) -> tuple[TrialRecord, ...]:
        """Complete trials of uniform plans."""
        return tuple(trial for trial in self.complete if trial.label)

    @property
    def best(self) -> TrialRecord | None:
        """The trial of the best quality."""
        sign = OBJECTIVES[self.objectives[0]].sign
        return min(self.complete, key=lambda trial: sign * trial.values[self.objectives[0]], default=None)

    @property
    def hypervolume(self) -> float | None:
        """What the first two objectives' front dominates, as a share of the box below the worst baseline.

        The box reaches from the best value of each objective to the worst one among the uniform plans,
        so the share is comparable within one moment of a study; None before two baselines are there.
        """
        if len(self.baselines) < 2:
            return None
        points = [self._signed(trial)[:2] for trial in self.complete]
        worst = [max(column) for column in zip(*(self._signed(t)[:2] for t in self.baselines), strict=True)]
        best = [min(column) for column in zip(*points, strict=True)]
        box = (worst[0] - best[0]) * (worst[1] - best[1])
        return hypervolume(points, worst) / box if box > 0 else None

    def _in_state(self, state: TrialState) -> tuple[TrialRecord, ...]:
        return tuple(trial for trial in self.trials if trial.state == state)

    def _signed(self, trial: TrialRecord) -> list[float]:
        """Objective values turned so that all are minimized."""
        return [OBJECTIVES[name].sign * value for name, value in trial.values.items()]
