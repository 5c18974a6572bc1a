"""What a study keeps in Optuna's storage beside parameters and values, and how it is read back.

A study has the user attributes ``config``, ``layout`` and perhaps ``selection``, ``sensitivities`` and
``converged``, and those of ``full_runs``; a trial has ``plan``, ``digest``, ``seed`` and perhaps ``origin``
from the start, and ``measurement`` or ``failure`` at the end.
"""

from __future__ import annotations

import math
import operator
import statistics
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.front.pareto import hypervolume, is_on_front
from jointsearch.front.selection import FrontPoint
from jointsearch.measurement import Measurement
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import Plan
from jointsearch.search.attributes import COPY_OF as COPY_OF
from jointsearch.search.attributes import PLAN as PLAN
from jointsearch.search.attributes import SEED as SEED
from jointsearch.study.seed_offsets import seed_offsets
from jointsearch.study.storage.reading import ChangedTrials

CONFIG = "config"
LAYOUT = "layout"
SELECTION = "selection"
"""The number of the trial that was selected last."""
CONVERGED = "converged"
"""How many trials were complete when the search had converged."""
SENSITIVITIES = "sensitivities"

DIGEST = "digest"
ORIGIN = "origin"
LABEL = "label"
"""What version 0.1.0 wrote in place of ``origin``."""
REQUESTED = "requested"
"""A person asked for this trial: it comes on top of the search's, and first."""
IMPORTED_FROM = "imported_from"
RUNG = "rung"
"""Where a trial was stopped early: its step and its loss there."""
WORKER = "worker"
"""Host and process that run the trial."""
MEASUREMENT = "measurement"
FAILURE = "failure"
RETRY_OF = "retry_of"

PLAN_ATTRIBUTES = (PLAN, DIGEST, ORIGIN, LABEL, SEED, REQUESTED)
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

    @cached_property
    def origin(self) -> Origin:
        """Where its plan comes from."""
        if ORIGIN in self._attributes:
            return Origin.model_validate(self._attributes[ORIGIN])
        return Origin.of_label(str(self._attributes.get(LABEL, "")))

    @property
    def digest(self) -> str:
        return str(self._attributes.get(DIGEST, ""))

    @property
    def seed(self) -> int | None:
        """None until a worker has chosen it."""
        return self._attributes.get(SEED)

    @property
    def worker(self) -> str:
        """Host and process that run it, or ran it."""
        return str(self._attributes.get(WORKER, ""))

    @property
    def copy_of(self) -> int | None:
        """The trial of the same plan and seed whose measurement this one has, or waits for."""
        return self._attributes.get(COPY_OF)

    @property
    def requested(self) -> bool:
        """Whether a person asked for it, on top of the search's trials."""
        return bool(self._attributes.get(REQUESTED))

    @property
    def searched(self) -> bool:
        """Whether it counts as one of the ``search.trials``."""
        return not self.requested and IMPORTED_FROM not in self._attributes

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
        """Mean over the seeds, by objective, less what the seeds add to all plans."""
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
    def pruned(self) -> tuple[TrialRecord, ...]:
        """Stopped early."""
        return self._in_state(TrialState.PRUNED)

    @cached_property
    def failed(self) -> tuple[TrialRecord, ...]:
        """Failed for good: a trial whose plan is in the queue again counts as its successor."""
        retried = {trial.frozen.user_attrs.get(RETRY_OF) for trial in self.trials}
        return tuple(t for t in self._in_state(TrialState.FAIL) if t.number not in retried)

    @cached_property
    def stale(self) -> tuple[TrialRecord, ...]:
        """Failed without a word, with their worker, and about to be in the queue again."""
        return tuple(trial for trial in self.failed if not trial.failure)

    @property
    def num_finished(self) -> int:
        return len(self.complete) + len(self.pruned) + len(self.failed)

    def share_saved(self, steps: int) -> float:
        """Of all trials' training steps, those that early stopping has spared; ``steps``: of a trial."""
        trained = sum(trial.copy_of is None for trial in self.complete) + len(self.pruned)
        saved = sum(1 - trial.frozen.user_attrs[RUNG]["step"] / steps for trial in self.pruned)
        return saved / trained if trained else 0.0

    @property
    def requested(self) -> tuple[TrialRecord, ...]:
        """Waiting trials that a person asked for."""
        return tuple(trial for trial in self.waiting if trial.requested)

    @property
    def num_searched(self) -> int:
        """Finished and running trials of the search."""
        return sum(t.searched for t in (*self.complete, *self.pruned, *self.failed, *self.running))

    def num_left(self, trials: int) -> int:
        """Trials yet to be finished: of the ``trials`` of the search, and of those asked for on top."""
        finished = (*self.complete, *self.pruned, *(trial for trial in self.failed if trial.failure))
        unfinished = (*self.waiting, *self.running, *self.stale)
        searched = sum(trial.searched for trial in finished)
        return max(0, trials - searched) + sum(trial.requested for trial in unfinished)

    @cached_property
    def measured(self) -> tuple[MeasuredPlan, ...]:
        """The plans that have been measured, by the number of their first trial."""
        by_plan: defaultdict[str, dict[int | None, TrialRecord]] = defaultdict(dict)
        for trial in self.complete:
            by_plan[trial.digest].setdefault(trial.seed, trial)
        offsets = {
            name: seed_offsets([{s: t.values[name] for s, t in found.items()} for found in by_plan.values()])
            for name in self.objectives
        }
        return tuple(MeasuredPlan(tuple(by_seed.values()), offsets) for by_seed in by_plan.values())

    @cached_property
    def front(self) -> tuple[MeasuredPlan, ...]:
        """Measured plans that no other dominates, by rising bytes."""
        on_front = is_on_front([self._signed(point) for point in self.measured])
        front = [point for point, keep in zip(self.measured, on_front, strict=True) if keep]
        return tuple(sorted(front, key=lambda point: (point.measurement.model_bytes, point.number)))

    @property
    def front_points(self) -> list[FrontPoint]:
        return [
            FrontPoint(point.number, point.values[self.objectives[0]], point.measurement.model_bytes)
            for point in self.front
        ]

    @property
    def baselines(self) -> tuple[MeasuredPlan, ...]:
        """Measured plans that have a name: uniform ones and those of strategies."""
        return tuple(point for point in self.measured if point.origin.is_named)

    @property
    def uniform(self) -> tuple[MeasuredPlan, ...]:
        """Measured plans of one format and rank everywhere."""
        return tuple(point for point in self.measured if point.origin.kind == "uniform")

    @property
    def best(self) -> MeasuredPlan | None:
        """The plan of the best quality."""
        sign = OBJECTIVES[self.objectives[0]].sign
        return min(self.measured, key=lambda point: sign * point.values[self.objectives[0]], default=None)

    @property
    def hypervolume(self) -> float | None:
        """What the first two objectives' front dominates, as a share of the box below the worst baseline.

        The box reaches from the best value of each objective to the worst one among the search's uniform
        plans, so the share is comparable within one moment of a study; None before two of them are there.
        Plans that only persons asked for (a comparison's, say) neither move the box nor count.
        """
        searched = [point for point in self.measured if point.searched]
        uniform = [point for point in searched if point.origin.kind == "uniform"]
        if len(uniform) < 2:
            return None
        points = [self._signed(point)[:2] for point in searched]
        worst = [max(column) for column in zip(*(self._signed(t)[:2] for t in uniform), strict=True)]
        best = [min(column) for column in zip(*points, strict=True)]
        box = (worst[0] - best[0]) * (worst[1] - best[1])
        return hypervolume(points, worst) / box if box > 0 else None

    def _in_state(self, state: TrialState) -> tuple[TrialRecord, ...]:
        return tuple(trial for trial in self.trials if trial.state == state)

    def _signed(self, point: MeasuredPlan) -> list[float]:
        """Objective values turned so that all are minimized."""
        return [OBJECTIVES[name].sign * value for name, value in point.values.items()]


class RecordReader:
    """The records of one study at any time; thread-safe. Their trials have no parameters."""

    def __init__(self, study: optuna.Study, objectives: tuple[str, ...]) -> None:
        self._trials = ChangedTrials(study)
        self._latest = StudyRecords(objectives, ())
        self._lock = threading.Lock()

    def read(self) -> StudyRecords:
        """All trials as they are now; the same object as before where nothing has changed."""
        with self._lock:
            before = self._latest.trials
            known = {id(trial.frozen): trial for trial in before}
            names = self._latest.objectives
            trials = tuple(known.get(id(f)) or TrialRecord(f, names) for f in self._trials.read())
            if len(trials) != len(before) or not all(map(operator.is_, trials, before)):
                self._latest = StudyRecords(names, trials)
            return self._latest
