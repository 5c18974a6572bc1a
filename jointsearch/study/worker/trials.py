"""The worker: asks Optuna for a trial, has its plan run, tells the result, until the study is full."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from jointsearch.errors import TrialFailed, TrialInterrupted, TrialPruned
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.plan import Plan
from jointsearch.runner import Budget, Runner
from jointsearch.search.attributes import EXPECTED
from jointsearch.search.optuna_compat import experimental_optuna, generation_of
from jointsearch.search.samplers import build_sampler, distributions
from jointsearch.study.analysis.prediction import Convergence
from jointsearch.study.control import Wanted, watch
from jointsearch.study.queue import give_back, take
from jointsearch.study.records import (
    COPY_OF,
    DIGEST,
    FAILURE,
    LABEL,
    MEASUREMENT,
    PLAN,
    PLAN_ATTRIBUTES,
    REQUESTED,
    RETRY_OF,
    RUNG,
    SEED,
    WORKER,
    StudyRecords,
    TrialRecord,
)
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.storage.outages import outlast
from jointsearch.study.storage.reading import stored
from jointsearch.study.storage.writing import suggest, write
from jointsearch.study.study import JointStudy
from jointsearch.study.worker.early_stopping import RISK, forecast_at
from jointsearch.study.worker.liveness import LostTrials, beating
from jointsearch.study.worker.probing import make_probe
from jointsearch.study.worker.signals import worker_name
from jointsearch.study.worker.time_limit import time_limit

POLL_SECONDS = 1.0

Listener = Callable[[StudyRecords], None]

_log = logging.getLogger(__name__)


class Worker:
    """Runs trials of one study in this process, one at a time."""

    def __init__(
        self,
        study: JointStudy,
        runner: Runner,
        listener: Listener = lambda records: None,
        *,
        max_trials: int | None = None,
        idle_exit_seconds: float = math.inf,
        requested_only: bool = False,
    ) -> None:
        """``max_trials``: leave after so many; ``idle_exit_seconds``: leave after waiting for so long;
        ``requested_only``: run what persons ask for, and none of the search's trials."""
        self._study = study
        self._runner = runner
        self._listener = listener
        self._max_trials = max_trials
        self._idle_exit_seconds = idle_exit_seconds
        self._num_trials = 0 if requested_only else study.config.search.trials
        self._stop = threading.Event()
        self._wanted = Wanted.RUN
        self._lost = LostTrials(study.optuna_study)
        self._convergence = Convergence(study)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Give the running trial back to the queue and end ``run`` at the next step."""
        self._stop.set()

    def run(self) -> None:
        """Run trials until the study has as many as its config says, or until someone wants an end.

        Trials of other workers are waited for: one that is lost with its worker comes back. So is a
        database that is away; what has been measured is written when it is back.
        """
        study = self._study.optuna_study
        config = self._study.config
        records = self._study.records()
        study.sampler = build_sampler(
            config.search,
            self._study.space,
            self._study.layout,
            config.quality,
            num_enqueued=len({trial.label for trial in records.trials if trial.label and trial.searched}),
            num_existing=len(records.trials),
        )
        me = {"study": self._study.name, "worker": worker_name()}
        _log.info("worker started", extra=me)
        num_run = 0
        idle_since = time.monotonic()
        with watch(study, self._tell):
            if self._wanted is Wanted.RUN and records.num_left(config.search.trials):
                make_probe(self._study, self._runner, lambda: self.stopping)
            while not self.stopping and self._wanted not in (Wanted.STOP, Wanted.CANCEL):
                found = outlast(self._look, lambda: self.stopping)
                if found is None or found.num_left(self._num_trials) == 0:
                    break
                self._listener(found)
                if self._convergence.reached(found):
                    break
                if self._wanted is Wanted.RUN and self._run_one(found):
                    num_run += 1
                    idle_since = time.monotonic()
                    if num_run == self._max_trials:
                        break
                elif time.monotonic() - idle_since >= self._idle_exit_seconds:
                    break
                else:
                    self._stop.wait(POLL_SECONDS)
        _log.info("worker left", extra=me | {"trials": num_run})
        if (last := outlast(self._study.records, lambda: self.stopping)) is not None:
            self._listener(last)

    def _tell(self, wanted: Wanted) -> None:
        self._wanted = wanted
        if wanted is Wanted.CANCEL:
            self.stop()

    def _look(self) -> StudyRecords:
        self._lost.recover()
        return self._study.records()

    def _ask(self, records: StudyRecords) -> optuna.Trial | None:
        """A trial to run; None where those that run already fill the study."""
        study = self._study.optuna_study
        if (requested := take(study, records.requested)) is not None:
            return requested
        total = self._num_trials
        if records.num_searched >= total:
            return None
        # towards the end two workers could both take the last one: they look and ask one after the other
        if records.num_searched + len(records.running) + 1 < total:
            return self._ask_now()
        with study_lock(study):
            return self._ask_now() if self._study.records().num_searched < total else None

    def _ask_now(self) -> optuna.Trial:
        with experimental_optuna():
            return self._study.optuna_study.ask()

    def _run_one(self, records: StudyRecords) -> bool:
        """Run a trial; False where there is none to run now."""
        trial = outlast(lambda: self._ask(records), lambda: self.stopping)
        if trial is None:
            return False
        with beating(trial):
            try:
                measurement = self._measure(trial)
                # not given up: a measurement is worth waiting for
                outlast(lambda: self._complete(trial, measurement))
            except TrialPruned:
                outlast(lambda: self._study.optuna_study.tell(trial, state=TrialState.PRUNED))
                self._event("trial pruned", trial)
            except TrialInterrupted as interruption:
                self._fail(trial, interruption, again=True)
            except TrialFailed as failure:
                self._fail(trial, failure)
            except BaseException as error:
                # a bug or a second Ctrl-C: not the trial's fault, so the queue keeps its plan
                self._fail(trial, error, again=True)
                raise
        return True

    def _measure(self, trial: optuna.Trial) -> Measurement:
        """The plan's measurement: by running it, or that of a trial with the same plan and seed."""
        plan = outlast(lambda: self._plan(trial), lambda: self.stopping)
        while plan is not None and not self.stopping:
            claim = outlast(lambda: self._claim(trial, plan), lambda: self.stopping)
            if claim is None:
                break
            seed, twin = claim
            if twin is None:
                self._event("trial started", trial, plan=plan.digest, seed=seed)
                return self._run_in_time(trial, plan, seed)
            if twin.state == TrialState.COMPLETE:
                return twin.measurement
            self._stop.wait(POLL_SECONDS)
            outlast(self._lost.recover, lambda: self.stopping)
        raise TrialInterrupted("stopped before the first step")

    def _run_in_time(self, trial: optuna.Trial, plan: Plan, seed: int) -> Measurement:
        """Have the plan run; raises ``TrialFailed`` after ``calibration.max_seconds``."""
        limit = self._study.config.calibration.max_seconds
        overdue = TrialFailed(f"took longer than calibration.max_seconds ({limit} s)")
        with time_limit(limit, lambda: self._fail(trial, overdue)) as over:
            try:
                return self._runner.run(
                    plan,
                    Budget(
                        seed,
                        should_stop=lambda: self.stopping or over(),
                        at_rung=lambda step, loss: self._at_rung(trial, plan, step, loss),
                    ),
                )
            except TrialInterrupted:
                if over():
                    raise overdue from None
                raise

    def _at_rung(self, trial: optuna.Trial, plan: Plan, step: int, loss: float) -> None:
        """Raise ``TrialPruned`` where the trial is too unlikely to be on the front.

        A plan with a name, or that a person asked for, is measured to its end.
        """
        if not self._study.config.search.early_stopping or {LABEL, REQUESTED} & trial.user_attrs.keys():
            return
        records = outlast(self._study.records, lambda: self.stopping)
        if records is None:
            return
        forecast, rival = forecast_at(records, step, loss, plan_cost(self._study.layout, plan).model_bytes)
        if forecast and rival is not None and forecast.chance_below(rival) < RISK:
            sign = OBJECTIVES[self._study.config.quality].sign
            write(trial, {EXPECTED: sign * forecast.mean, RUNG: {"step": step, "loss": loss}})
            raise TrialPruned(f"stopped at step {step}: hardly on the front")

    def _plan(self, trial: optuna.Trial) -> Plan:
        """The plan that the trial came from the queue with, or that of the sampler's proposal."""
        space = self._study.space
        if PLAN in trial.user_attrs:
            return Plan.model_validate(trial.user_attrs[PLAN])
        choices = distributions(space)
        values = suggest(trial, choices)
        plan = space.plan(values)
        write(trial, {PLAN: plan.model_dump(mode="json"), DIGEST: plan.digest}, values, choices)
        return plan

    def _claim(self, trial: optuna.Trial, plan: Plan) -> tuple[int, TrialRecord | None]:
        """The trial's seed, and the other trial that has measured this plan with it or is at it.

        One worker at a time claims, so that of two trials that meet one runs and the other waits.
        """
        with study_lock(self._study.optuna_study):
            records = self._study.records()
            self._listener(records)
            others = [
                other
                for other in (*records.complete, *records.running)
                if other.digest == plan.digest and other.number != trial.number
            ]
            seed = self._seed(trial, {other.seed for other in others})
            same = [other for other in others if other.seed == seed and other.copy_of is None]
            twin = same[0] if same else None
            found = {SEED: seed, COPY_OF: twin and twin.number, WORKER: worker_name()}
            if changed := {k: v for k, v in found.items() if trial.user_attrs.get(k) != v}:
                write(trial, changed)
        return seed, twin

    def _seed(self, trial: optuna.Trial, taken: set[int | None]) -> int:
        """The seed asked for; else the study's, or the next one where a plan may be repeated."""
        if SEED in trial.user_attrs:
            return int(trial.user_attrs[SEED])
        first = self._study.config.calibration.seed
        seeds = range(first, first + self._study.config.search.repeats)
        return next((seed for seed in seeds if seed not in taken), first)

    def _complete(self, trial: optuna.Trial, measurement: Measurement) -> None:
        values = {name: measurement.value(name) for name in self._study.config.objectives}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrialFailed(f"diverged: {name} is {value}")
        study = self._study.optuna_study
        frozen = stored(trial)
        written = measurement.model_dump(mode="json")
        if frozen.state == TrialState.RUNNING:
            trial.set_user_attr(MEASUREMENT, written)
            study.tell(trial, list(values.values()))
            self._event("trial complete", trial, values=values, seconds=measurement.seconds)
        elif frozen.state == TrialState.FAIL:
            # it was taken for lost; whoever gets its plan from the queue copies this measurement
            kept = {key: value for key, value in frozen.user_attrs.items() if key in PLAN_ATTRIBUTES}
            study.add_trial(
                create_trial(
                    values=list(values.values()),
                    params=frozen.params,
                    distributions=frozen.distributions,
                    user_attrs={**kept, MEASUREMENT: written, RETRY_OF: trial.number},
                    system_attrs=generation_of(frozen),
                )
            )

    def _fail(self, trial: optuna.Trial, reason: BaseException, *, again: bool = False) -> None:
        study = self._study.optuna_study

        def fail() -> None:
            if stored(trial).state != TrialState.RUNNING:
                return
            if again:
                give_back(study, stored(trial))
            trial.set_user_attr(FAILURE, str(reason) or type(reason).__name__)
            study.tell(trial, state=TrialState.FAIL)
            self._event("trial failed", trial, reason=str(reason) or type(reason).__name__, again=again)

        outlast(fail)

    def _event(self, event: str, trial: optuna.Trial, **details: Any) -> None:
        where = {"study": self._study.name, "trial": trial.number, "worker": worker_name()}
        _log.info(event, extra=where | details)
