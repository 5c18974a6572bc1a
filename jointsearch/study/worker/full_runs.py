"""The worker for full runs: takes selected plans, has them trained, and writes how they do into the study."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from jointsearch.errors import JointSearchError, RunInterrupted, StudyError, first_line
from jointsearch.files import as_file_name
from jointsearch.front.objectives import format_value
from jointsearch.measurement import Measurement
from jointsearch.plan.plan_file import PlanFile
from jointsearch.study.control import Wanted, wanted
from jointsearch.study.full_runs import FullRun, RunState, claim, full_runs, selections, write
from jointsearch.study.plans import export_plan
from jointsearch.study.storage.outages import outlast
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.events import worker_event, worker_name
from jointsearch.study.worker.heartbeat import HeldRun
from jointsearch.study.worker.loop import Step, WorkLoop
from jointsearch.study.worker.stale import StaleRuns


class Trainer(Protocol):
    """Trains a plan in full into a folder, or goes on with its unfinished run there.

    ``at_step`` is told the step, their number and a validation loss where one was measured; ``should_stop``
    is asked along the way. Raises
    ``RunInterrupted`` after a stop, any other ``JointSearchError`` where the run has failed.
    """

    def __call__(
        self,
        plan: PlanFile,
        folder: Path,
        *,
        at_step: Callable[[int, int, float | None], None],
        should_stop: Callable[[], bool],
    ) -> Measurement: ...


class FullRunWorker:
    """Trains the selected plans of one study in full, one at a time, for as long as some are selected."""

    def __init__(
        self,
        study: StoredStudy,
        train: Trainer,
        output: Path,
        *,
        tell: Callable[[str], None] = lambda note: None,
        max_runs: int | None = None,
        idle_exit_seconds: float = math.inf,
    ) -> None:
        """Every run has a folder below ``output``; ``tell`` gets a line when one begins and ends.

        ``max_runs``: leave after so many; ``idle_exit_seconds``: leave after waiting for so long.
        """
        self._study = study
        self._train = train
        self._output = output
        self._say = tell
        self._stale = StaleRuns()
        self._loop = WorkLoop(study.optuna_study, max_done=max_runs, idle_exit_seconds=idle_exit_seconds)

    @property
    def stopping(self) -> bool:
        return self._loop.stopping

    def stop(self) -> None:
        """Leave a checkpoint of the run and end ``run`` after the next step."""
        self._loop.stop()

    def run(self) -> None:
        """Wait for selected plans and train each, until someone wants an end.

        Raises ``StudyError`` where the study's workers are not to run from the start.
        """
        if (state := wanted(self._study.optuna_study)) in (Wanted.STOP, Wanted.CANCEL):
            raise StudyError(
                f"the study's workers must be wanted, but those of '{self._study.name}' are to "
                f"{state.value}; `jointsearch study resume {self._study.name}` lets them run"
            )
        with self._loop.obeying():
            self._loop.run(self._step)

    def _step(self) -> Step:
        run = self._loop.outlast(self._take) if self._loop.may_begin else None
        if run is None:
            return Step.IDLE
        self._run(run)
        return Step.DONE

    def _take(self) -> FullRun | None:
        """The first run that is due, from now on this worker's: it waits, was interrupted, or is stale."""
        study = self._study.optuna_study
        attributes = study.user_attrs
        runs = full_runs(attributes)
        stale = self._stale.among(runs)
        for trial in selections(attributes):
            run = runs[trial]
            if run.state in (RunState.WAITING, RunState.INTERRUPTED) or trial in stale:
                mine = claim(study, run, worker_name(), self._folder(run))
                if mine is not None:
                    return mine
        return None

    def _folder(self, run: FullRun) -> Path:
        """That of the run where it has begun, if this machine has it; else a new one."""
        if run.state is not RunState.WAITING and Path(run.folder).is_dir():
            return Path(run.folder)
        return (self._output / f"{as_file_name(self._study.name)}-trial-{run.trial}").absolute()

    def _run(self, run: FullRun) -> None:
        held = HeldRun(self._study.optuna_study, run)
        self._tell("started", run)
        try:
            with held.heartbeat():
                plan = self._loop.outlast(lambda: export_plan(self._study, run.trial))
                if plan is None:
                    raise RunInterrupted("stopped before the first step")
                measurement = self._train(
                    plan,
                    Path(run.folder),
                    at_step=held.at_step,
                    should_stop=lambda: self.stopping or held.taken_over,
                )
        except RunInterrupted:
            self._end(held, RunState.INTERRUPTED)
        except (JointSearchError, OSError) as error:  # a full disk is one
            self._end(held, RunState.FAILED, failure=first_line(error))
        except Exception as error:  # a bug: it would be one the next time too
            self._end(held, RunState.FAILED, failure=first_line(error))
            raise
        except BaseException:  # a second Ctrl-C
            self._end(held, RunState.INTERRUPTED)
            raise
        else:
            self._end(held, RunState.COMPLETE, measurement=measurement)

    def _end(self, held: HeldRun, state: RunState, **found: Any) -> None:
        """Write how the run has ended, however long the database is away."""
        end = {"state": state, "heartbeat": None, "ended": datetime.now(UTC), **found}
        ended = held.run.model_copy(update=end)
        if outlast(lambda: write(self._study.optuna_study, ended)):
            self._tell(state.value, ended)
        else:
            self._tell("taken over by another worker", ended)

    def _tell(self, event: str, run: FullRun) -> None:
        found = run.measurement.metrics if run.measurement else {}
        worker_event(
            f"full run {event}",
            self._study.name,
            trial=run.trial,
            folder=run.folder,
            reason=run.failure,
            metrics=found,
        )
        texts = [f"{name} {format_value(name, value)}" for name, value in found.items()]
        self._say(f"full run of trial {run.trial} {event}: {', '.join([run.failure or run.folder, *texts])}")
