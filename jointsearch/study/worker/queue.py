"""The queue as one worker uses it: trials are taken, claimed and ended here, and nowhere else.

Every method may be called again where the answer to the first call was lost with the database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.plan import Plan
from jointsearch.plan.record import read_stored
from jointsearch.search.attributes import COPY_OF, FAILURE, PLAN, SEED, STEPS
from jointsearch.search.optuna_compat import generation_of
from jointsearch.search.samplers import distributions
from jointsearch.study.attributes import MEASUREMENT, RETRY_OF, WORKER
from jointsearch.study.queue import kept_for_retry, plan_attributes, requeue
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage import writing
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.storage.reading import stored
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord
from jointsearch.study.worker.events import worker_event, worker_name
from jointsearch.study.worker.stale import StaleTrials


@dataclass(frozen=True)
class Claim:
    """What a worker is to do with a trial."""

    seed: int
    twin: TrialRecord | None
    """Another trial that has measured the same plan with this seed, or is at it."""
    records: StudyRecords
    """The study as the claim saw it."""


class TrialQueue:
    """Trials of one study, for one worker."""

    def __init__(self, study: StoredStudy, *, num_trials: int) -> None:
        """``num_trials``: how many of the search there are to be, those on request aside."""
        self._study = study
        self._num_trials = num_trials
        self._stale = StaleTrials(study.optuna_study)

    def recover(self) -> None:
        """Put the plans of workers that are gone back into the queue."""
        self._stale.recover()

    def look(self) -> StudyRecords | None:
        """The study now, with what was stale in the queue again; None where nothing is left to do."""
        self.recover()
        records = self._study.records()
        return records if records.num_left(self._num_trials) else None

    def take(self, records: StudyRecords) -> optuna.Trial | None:
        """A trial that is this worker's from now on; None where those that run already fill the study."""
        for waiting in records.requested:
            if (taken := writing.take(self._study.optuna_study, waiting.frozen)) is not None:
                return taken
        if records.num_searched >= self._num_trials:
            return None
        study = self._study.optuna_study
        with study_lock(study):  # who has looked long ago would take one too many
            if self._study.records().num_searched >= self._num_trials:
                return None
            taken_id = writing.reserve(study)
        return writing.begin(study, taken_id)

    def plan_of(self, trial: optuna.Trial) -> Plan:
        """The plan that the trial came from the queue with, or that of the sampler's proposal."""
        space = self._study.space
        known = stored(trial).user_attrs  # the answer to an earlier call may have been lost
        if PLAN in known:
            return read_stored(Plan, known[PLAN], f"the plan of trial {trial.number}")
        choices = distributions(space)
        params = writing.suggest(trial, choices)
        plan = space.plan(params)
        writing.write(trial, plan_attributes(plan), params, choices)
        return plan

    def rated(self, trial: optuna.Trial, plan: Plan, rate: float) -> Plan:
        """The plan of ``trial``, which came without a learning rate, at that one from now on."""
        space, rated = self._study.space, plan.at(rate)
        choices = distributions(space) if trial.params else {}
        params = {**trial.params, **(space.params_of(rated) or {})}
        writing.write(trial, plan_attributes(rated), params, choices)
        return rated

    def claim(self, trial: optuna.Trial, plan: Plan) -> Claim:
        """Give the trial its seed, and find its twin.

        One worker at a time claims, so that of two trials that meet one runs and the other waits.
        """
        with study_lock(self._study.optuna_study):
            records = self._study.records()
            others = _others(records, plan.digest, trial.user_attrs.get(STEPS), trial.number)
            seed = self._seed(trial, {other.seed for other in others})
            twin = _twin(others, seed)
            found = {SEED: seed, COPY_OF: twin and twin.number, WORKER: worker_name()}
            if changed := {k: v for k, v in found.items() if trial.user_attrs.get(k) != v}:
                writing.write(trial, changed)
        return Claim(seed, twin, records)

    def _seed(self, trial: optuna.Trial, taken: set[int | None]) -> int:
        """The seed asked for; else the study's, or the next one where a plan may be repeated."""
        if SEED in trial.user_attrs:
            return int(trial.user_attrs[SEED])
        first = self._study.config.calibration.seed
        seeds = range(first, first + self._study.config.search.repeats)
        return next((seed for seed in seeds if seed not in taken), first)

    def complete(self, trial: optuna.Trial, measurement: Measurement) -> None:
        """Store the trial's result; raises ``TrialFailed`` where it is no number.

        Where the trial was taken for stale, the result goes to the trial that has its plan now.
        """
        values = {name: measurement.value(name) for name in self._study.config.objectives}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrialFailed(f"diverged: {name} is {value}")
        result = {MEASUREMENT: measurement.model_dump(mode="json")}
        if self._end(trial, TrialState.COMPLETE, result, list(values.values())):
            self._event("trial complete", trial, values=values, seconds=measurement.seconds)
        elif (frozen := stored(trial)).state == TrialState.FAIL:
            late = {**result, **{key: frozen.user_attrs.get(key) for key in (SEED, WORKER)}}
            self._store_late(frozen, late, list(values.values()))

    def _store_late(self, stale: FrozenTrial, result: dict[str, Any], values: list[float]) -> None:
        """Give a result to the trial that has the plan now; raises ``Busy``.

        Where another worker measures it already, or the same plan under another number, the result will be
        the same; where nobody has the plan yet, it is a trial of its own.
        """
        study = self._study.optuna_study
        with study_lock(study):
            records = self._study.records()
            heir = records.heir(stale.number)
            others = _others(records, heir.digest, heir.steps, heir.number)
            if _twin(others, stale.user_attrs[SEED]) is not None:
                return
            if heir.state == TrialState.FAIL:
                study.add_trial(
                    create_trial(
                        values=values,
                        params=stale.params,
                        distributions=stale.distributions,
                        user_attrs={**kept_for_retry(stale), **result, RETRY_OF: heir.number},
                        system_attrs=generation_of(stale),
                    )
                )
            elif heir.state == TrialState.WAITING and (mine := writing.take(study, heir.frozen)) is not None:
                self._end(mine, TrialState.COMPLETE, result, values)

    def prune(self, trial: optuna.Trial) -> None:
        """End a trial that is hardly on the front."""
        if self._end(trial, TrialState.PRUNED):
            self._event("trial pruned", trial)

    def fail(self, trial: optuna.Trial, reason: str, *, again: bool = False) -> None:
        """End a trial without a result; ``again``: its plan goes back into the queue."""
        frozen = stored(trial)
        if again and frozen.state == TrialState.RUNNING:
            requeue(self._study.optuna_study, frozen)
        if self._end(trial, TrialState.FAIL, {FAILURE: reason}):
            self._event("trial failed", trial, reason=reason, again=again)

    def _end(
        self,
        trial: optuna.Trial,
        state: TrialState,
        attributes: Mapping[str, Any] | None = None,
        values: Sequence[float] | None = None,
    ) -> bool:
        """Whether this has ended the trial; False where another worker has taken it for stale before."""
        try:
            for key, value in (attributes or {}).items():
                trial.set_user_attr(key, value)
            ended = self._study.optuna_study.tell(trial, values, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return False
        return ended.state == state

    def _event(self, event: str, trial: optuna.Trial, **details: Any) -> None:
        worker_event(event, self._study.name, trial=trial.number, **details)


def _others(records: StudyRecords, digest: str, steps: int | None, number: int) -> list[TrialRecord]:
    """The trials but that of ``number`` that have measured the plan for as long, or are at it."""
    running = (trial for trial in records.running if trial.steps == steps)
    known = (*records.at(steps).complete, *running)
    return [trial for trial in known if trial.digest == digest and trial.number != number]


def _twin(others: Sequence[TrialRecord], seed: int) -> TrialRecord | None:
    """Of trials of one plan that which measures it with this seed, itself."""
    return next((other for other in others if other.seed == seed and other.copy_of is None), None)
