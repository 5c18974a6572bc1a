"""The run of one trial: from its plan and its seed to its measurement."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from jointsearch import runner as runners
from jointsearch.errors import TrialFailed, TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.plan import Plan
from jointsearch.runner import Runner, TakesSteps
from jointsearch.search.attributes import STEPS
from jointsearch.study.storage.outages import outlast
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.early_stopping import may_stop_early, stop_where_hopeless, wants_rungs
from jointsearch.study.worker.events import Listener, worker_event
from jointsearch.study.worker.loop import WorkLoop
from jointsearch.study.worker.queue import TrialQueue
from jointsearch.study.worker.rate_sweep import learning_rate_for
from jointsearch.study.worker.time_limit import time_limit


@dataclass(frozen=True)
class TrialRun:
    """Has the plan of a trial measured, unless another trial measures the same."""

    trial: optuna.Trial
    study: StoredStudy
    runner: Runner
    queue: TrialQueue
    loop: WorkLoop
    listener: Listener

    def measure(self) -> Measurement:
        """The plan's measurement: by running it, or that of a trial with the same plan and seed."""
        try:
            return self._measure()
        except UpdateFinishedTrialError:
            # this process stood still for so long that others have put the plan into the queue again
            raise TrialInterrupted("taken for stale") from None

    def _measure(self) -> Measurement:
        plan = self._plan()
        while plan is not None and not self.loop.stopping:
            claim = self.loop.outlast(lambda: self.queue.claim(self.trial, plan))
            if claim is None:
                break
            self.listener(claim.records)
            if claim.twin is None:
                return self._run(plan, claim.seed, rungs=wants_rungs(self.study, claim.records))
            if claim.twin.state == TrialState.COMPLETE:
                return claim.twin.measurement
            self.loop.wait()
            self.loop.outlast(self.queue.recover)
        raise TrialInterrupted("stopped before the first step")

    def _plan(self) -> Plan | None:
        """With a learning rate of its own where these are searched; None once the worker is to stop."""
        plan = self.loop.outlast(lambda: self.queue.plan_of(self.trial))
        if plan is None or not self.study.space.learning_rates or plan.learning_rate is not None:
            return plan
        rate = learning_rate_for(self.study, self.runner, plan, self.loop)
        return None if rate is None else self.loop.outlast(lambda: self.queue.rated(self.trial, plan, rate))

    def _run(self, plan: Plan, seed: int, *, rungs: bool) -> Measurement:
        """Have the plan run; raises ``TrialFailed`` after ``calibration.max_seconds``."""
        rate = learning_rate_for(self.study, self.runner, plan, self.loop)
        steps = self.trial.user_attrs.get(STEPS)
        if steps and not isinstance(self.runner, TakesSteps):
            raise TrialFailed(
                f"a final needs a runner that trains for Trial.steps, not {type(self.runner).__name__}"
            )
        about = {"trial": self.trial.number, "plan": plan.digest, "seed": seed, "steps": steps}
        worker_event("trial started", self.study.name, **about)
        calibration = self.study.config.calibration
        limit = calibration.max_seconds
        if limit and steps:  # in proportion
            limit *= steps / calibration.steps
        overdue = f"took longer than calibration.max_seconds ({limit} s)"
        with time_limit(limit, lambda: outlast(lambda: self.queue.fail(self.trial, overdue))) as over:
            told = runners.Trial(
                seed,
                rungs=rungs,
                learning_rate=rate,
                steps=steps,
                number=self.trial.number,
                should_stop=lambda: self.loop.stopping or over(),
                report=lambda step, loss: self._report(plan, step, loss),
            )
            try:
                measured = self.runner.run(plan.within(self.study.context), told)
            except TrialInterrupted:
                if over():
                    raise TrialFailed(overdue) from None
                raise
        ended = plan.ending_with(measured.ranks)
        memory = self.study.memory_of(plan) if plan.lora.method.searchable else {}
        return measured.weighed(plan_cost(self.study.layout, ended), memory)

    def _report(self, plan: Plan, step: int, loss: float) -> None:
        if not may_stop_early(self.study, self.trial):
            return
        records = self.loop.outlast(self.study.records)
        if records is not None:
            self.loop.outlast(lambda: stop_where_hopeless(self.study, records, self.trial, plan, step, loss))
