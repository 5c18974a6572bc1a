"""The worker: takes a trial, has its plan run, stores the result, until the study is full."""

from __future__ import annotations

import math

import optuna
from optuna.samplers import BaseSampler

from jointsearch.errors import TrialFailed, TrialInterrupted, TrialPruned
from jointsearch.runner import Runner
from jointsearch.search.samplers import build_sampler
from jointsearch.study.analysis.finals import final_steps, request_anchors, request_finals
from jointsearch.study.analysis.prediction import Convergence
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.outages import outlast
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.events import Listener, worker_event
from jointsearch.study.worker.heartbeat import heartbeat
from jointsearch.study.worker.loop import Step, WorkLoop
from jointsearch.study.worker.probing import make_probe
from jointsearch.study.worker.queue import TrialQueue
from jointsearch.study.worker.trial_run import TrialRun


class Worker:
    """Runs trials of one study in this process, one at a time."""

    def __init__(
        self,
        study: StoredStudy,
        runner: Runner,
        listener: Listener = lambda records: None,
        *,
        max_trials: int | None = None,
        idle_exit_seconds: float = math.inf,
        num_trials: int | None = None,
    ) -> None:
        """``listener`` is told the study's records before every trial, at its start, and at the end.

        ``max_trials``: leave after so many; ``idle_exit_seconds``: leave after waiting for so long;
        ``num_trials``: how many the search is to have, other than the study says; with 0 the worker runs
        what persons ask for alone.
        """
        self._study = study
        self._runner = runner
        self._listener = listener
        self._num_trials = study.config.search.trials if num_trials is None else num_trials
        self._queue = TrialQueue(study, num_trials=self._num_trials)
        self._loop = WorkLoop(study.optuna_study, max_done=max_trials, idle_exit_seconds=idle_exit_seconds)
        self._convergence = Convergence(study)
        self._has_anchors = False

    @property
    def stopping(self) -> bool:
        return self._loop.stopping

    def stop(self) -> None:
        """Give the running trial back to the queue and end ``run`` at the next step."""
        self._loop.stop()

    def leave(self) -> None:
        """End ``run`` once the running trial has ended."""
        self._loop.leave()

    def run(self) -> None:
        """Run trials until the study has as many as its config says, or until someone wants an end.

        Trials of other workers are waited for: one that is stale, its worker being gone, comes back. So is a
        database that is away; what has been measured is written when it is back.
        """
        records = self._loop.outlast(self._study.records)
        if records is None:
            return
        self._study.optuna_study.sampler = self._sampler(records)
        worker_event("worker started", self._study.name)
        with self._loop.obeying():
            if self._loop.may_begin and records.num_left(self._num_trials):
                make_probe(self._study, self._runner, lambda: self.stopping)
            num_run = self._loop.run(self._step)
        worker_event("worker left", self._study.name, trials=num_run)
        if (last := self._loop.outlast(self._study.records)) is not None:
            self._listener(last)

    def _step(self) -> Step:
        records = self._look()
        if records is None and self._has_finals:
            self._loop.outlast(lambda: request_finals(self._study))
            records = self._look()
        if records is None:
            return Step.OVER
        self._listener(records)
        if not self._loop.may_begin:
            return Step.IDLE
        if self._has_finals and not self._has_anchors and not records.waiting:
            self._has_anchors = self._loop.outlast(lambda: request_anchors(self._study)) is not None
            return self._step()
        trial = self._loop.outlast(lambda: self._queue.take(records))
        if trial is None:
            return Step.IDLE
        with heartbeat(trial):
            self._run(trial)
        return Step.DONE

    def _look(self) -> StudyRecords | None:
        """The study now; None where nothing is left to do, or the worker is to stop."""
        records = self._loop.outlast(self._queue.look)
        if records is None or self._loop.outlast(lambda: self._convergence.reached(records)):
            return None
        return records

    @property
    def _has_finals(self) -> bool:
        """Whether the search is followed by them; no where the worker runs less than the whole of it."""
        search = self._study.config.search
        return search.finals is not None and self._num_trials >= search.trials

    def _run(self, trial: optuna.Trial) -> None:
        """Bring the trial to its end, whatever it is. Results are worth waiting for a database."""
        run = TrialRun(trial, self._study, self._runner, self._queue, self._loop, self._listener)
        try:
            measurement = run.measure()
            outlast(lambda: self._queue.complete(trial, measurement))
        except TrialPruned:
            outlast(lambda: self._queue.prune(trial))
        except TrialInterrupted as interruption:
            self._fail(trial, interruption, again=True)
        except TrialFailed as failure:
            self._fail(trial, failure)
        except BaseException as error:
            # a bug or a second Ctrl-C: not the trial's fault, so the queue keeps its plan; without a database
            # nobody waits for one now, and the trial is found to be stale
            self._fail(trial, error, again=True, at_once=True)
            raise

    def _fail(
        self, trial: optuna.Trial, error: BaseException, *, again: bool = False, at_once: bool = False
    ) -> None:
        reason = str(error) or type(error).__name__
        outlast(lambda: self._queue.fail(trial, reason, again=again), lambda: at_once)

    def _sampler(self, records: StudyRecords) -> BaseSampler:
        config = self._study.config
        return build_sampler(
            config.search,
            self._study.space,
            self._study.layout,
            config.quality,
            num_enqueued=len({t.origin for t in records.trials if t.origin.is_named and t.searched}),
            num_existing=len(records.trials),
            steps=final_steps(config),
            limits=self._study.limits,
        )
