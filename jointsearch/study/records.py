"""All trials of a study at one moment: by state, by plan, and their front."""

from __future__ import annotations

import operator
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.front.pareto import growing_hypervolume, hypervolume, is_on_front
from jointsearch.front.selection import FrontPoint
from jointsearch.study.attributes import RETRY_OF, RUNG
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.seed_offsets import seed_offsets
from jointsearch.study.storage.reading import ChangedTrials
from jointsearch.study.trial_record import TrialRecord

MARGIN = 0.1
"""Of the ranges of trained uniform plans, so that the smallest and the largest of them count too."""


@dataclass(frozen=True)
class StudyRecords:
    """All trials of a study at one moment, and what those of one length have measured."""

    objectives: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    steps: int | None = None
    """How long the trials train that have measured: as finals do, or None as those of the search."""

    @classmethod
    def of(cls, objectives: Sequence[str], trials: Sequence[FrozenTrial]) -> StudyRecords:
        names = tuple(objectives)
        return cls(names, tuple(TrialRecord(trial, names) for trial in trials))

    def at(self, steps: int | None) -> StudyRecords:
        """The same moment, as trials of that length have measured it."""
        if steps not in self._views:
            self._views[steps] = StudyRecords(self.objectives, self.trials, steps)
        return self._views[steps]

    @property
    def answer(self) -> StudyRecords:
        """As the longest trials have measured it: what a person is to believe.

        At the longest length that all points of the front before it have run at, and none still runs: finals
        that half of the plans have turn nothing round.
        """
        unfinished = {trial.steps for trial in self.unfinished}
        found = self.at(None)
        for steps in self.lengths:
            tried = {digest for digest, _ in self.at(steps).known()}
            if steps in unfinished or not {point.digest for point in found.front} <= tried:
                break
            found = self.at(steps)
        return found

    def with_trial(self, number: int) -> StudyRecords:
        """The same moment, as trials of the length of that trial have measured it; raises ``StudyError``."""
        if not 0 <= number < len(self.trials):
            raise StudyError(f"the trial must be one of {len(self.trials)}, but got {number}")
        return self.at(self.trials[number].steps)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Of the finals that have measured something, rising."""
        return tuple(sorted({trial.steps for trial in self.all_complete if trial.steps}))

    def known(self) -> set[tuple[str, int | None]]:
        """Plans, by digest, and seeds that have or will have a trial of this length."""
        failed = (trial for trial in self.failed if trial.steps == self.steps)
        asked = (trial for trial in (*self.running, *self.waiting) if trial.steps == self.steps)
        return {(trial.digest, trial.seed) for trial in (*self.complete, *asked, *failed)}

    @cached_property
    def all_complete(self) -> tuple[TrialRecord, ...]:
        """Of every length."""
        return self._in_state(TrialState.COMPLETE)

    @cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        """Of this length."""
        return tuple(trial for trial in self.all_complete if trial.steps == self.steps)

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
    def unfinished(self) -> tuple[TrialRecord, ...]:
        """Trials whose plans wait, run, or are about to be in the queue again."""
        return (*self.waiting, *self.running, *self.stale)

    def heir(self, number: int) -> TrialRecord:
        """The trial that has the plan of trial ``number`` now, after however many retries; perhaps itself."""
        found = self.trials[number]
        for trial in self.trials[number + 1 :]:
            if trial.frozen.user_attrs.get(RETRY_OF) == found.number:
                found = trial
        return found

    @property
    def num_finished(self) -> int:
        return len(self.all_complete) + len(self.pruned) + len(self.failed)

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
        return sum(t.searched for t in (*self.all_complete, *self.pruned, *self.failed, *self.running))

    def num_left(self, trials: int) -> int:
        """Trials yet to be finished: of the ``trials`` of the search, and of those asked for on top."""
        finished = (*self.all_complete, *self.pruned, *(trial for trial in self.failed if trial.failure))
        searched = sum(trial.searched for trial in finished)
        return max(0, trials - searched) + sum(trial.requested for trial in self.unfinished)

    @cached_property
    def measured(self) -> tuple[MeasuredPlan, ...]:
        """The plans that have been measured, by the number of their first trial."""
        by_plan: defaultdict[str, dict[int | None, TrialRecord]] = defaultdict(dict)
        for trial in self.complete:
            by_plan[trial.digest].setdefault(trial.seed, trial)
        # bytes and speeds are no matter of luck, but an adaptive plan ends with other bytes under other seeds
        quality = self.objectives[0]
        values = [{s: t.values[quality] for s, t in found.items()} for found in by_plan.values()]
        offsets = {quality: seed_offsets(values)}
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
        """The last ratio of ``hypervolume_curve``; None before uniform plans make a yardstick."""
        return self.hypervolume_curve[-1][1] if self.hypervolume_curve else None

    @cached_property
    def hypervolume_curve(self) -> tuple[tuple[int, float], ...]:
        """(trial, what the first two objectives' front of the plans up to it dominates, in that of the
        search's uniform plans): above 1 the front is more than they are.

        Both are counted below one corner, ``MARGIN`` beyond the worst values of the trained uniform plans,
        all as they are now: the ratio never falls along the trials. Plans that only persons asked for (a
        comparison's, say) do not count. Empty before two trained uniform plans differ in both.
        """
        corner, uniform = self.hypervolume_corner, self._searched_uniform
        if corner is None:
            return ()
        searched = [point for point in self.measured if point.searched]
        points = np.array([self._signed(point)[:2] for point in searched])
        ratios = growing_hypervolume(points, corner) / hypervolume(uniform, corner)
        return tuple((point.number, float(ratio)) for point, ratio in zip(searched, ratios, strict=True))

    @property
    def hypervolume_corner(self) -> tuple[float, float] | None:
        """Of the first two objectives, turned so that lower is better; None before there is one."""
        uniform = self._searched_uniform
        if len(uniform) < 2 or not np.ptp(uniform, axis=0).all():
            return None
        first, second = uniform.max(axis=0) + MARGIN * np.ptp(uniform, axis=0)
        return float(first), float(second)

    @property
    def _searched_uniform(self) -> NDArray[np.float64]:
        """The search's trained uniform plans, (num_plans, 2), turned likewise."""
        rows = [
            self._signed(point)[:2]
            for point in self.measured
            if point.searched and point.origin.kind == "uniform" and point.plan.ranks
        ]
        return np.array(rows, dtype=float).reshape(-1, 2)

    @cached_property
    def _views(self) -> dict[int | None, StudyRecords]:
        return {self.steps: self}

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
