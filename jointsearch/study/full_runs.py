"""Full runs of selected plans: what persons and workers write into the study, and what both read.

A study has an attribute ``selection:TRIAL`` for every selected trial, which persons write, and an attribute
``full_run:TRIAL`` for every full run that has begun, which the worker writes that is at it. Nobody writes
what is another's, so that two who write at once lose nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import optuna
from pydantic import BeforeValidator

from jointsearch.errors import StudyError
from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.record import Record, read_stored
from jointsearch.study.attributes import SELECTION
from jointsearch.study.storage.locks import study_lock

SELECTION_OF = "selection:"
FULL_RUN_OF = "full_run:"

LONGEST_NOTE = 500
"""Characters; the dashboard takes no more either."""

_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _storable(text: Any) -> Any:
    """Text that every reader and every database can have: no control characters, no half of a character."""
    return _NO_TEXT.sub("", text) if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_storable)]
"""Where something odd is stored all the same, it is read without it."""


class Selection(Record):
    """A trial whose plan a person wants to be trained in full."""

    trial: int
    note: Text = ""
    at: datetime | None = None
    """None of a selection that was made before there were notes."""


class RunState(StrEnum):
    """Where a full run stands."""

    WAITING = "waiting"
    """Selected, and not begun."""
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    """Its worker was asked to stop; it goes on from its last checkpoint."""
    COMPLETE = "complete"
    FAILED = "failed"
    """Not tried again, unless its trial is selected again."""


class FullRun(Record):
    """A full run, as its worker has last written it."""

    selection: Selection
    state: RunState = RunState.WAITING
    worker: Text = ""
    """Host and process that run it, or ran it."""
    folder: Text = ""
    """Where it is, on the worker's machine."""
    began: datetime | None = None
    """When a worker first took it; like all its times by that worker's clock."""
    heartbeat: datetime | None = None
    """Of its worker, while it runs."""
    ended: datetime | None = None
    step: int = 0
    num_steps: int = 0
    """0 until the data are read."""
    validation_losses: tuple[LossPoint, ...] = ()
    """Along the run, as far as it is."""
    failure: Text = ""
    """Why it has failed, on one line."""
    measurement: Measurement | None = None
    """What it has measured, in the words of a trial's measurement."""

    @property
    def trial(self) -> int:
        return self.selection.trial


def select_trial(study: optuna.Study, trial: int, note: str = "") -> None:
    """Have the plan of ``trial`` trained in full and exported. Selected again it gets the new note.

    A note is cut where it is longer than ``LONGEST_NOTE``.
    """
    if len(note) > LONGEST_NOTE:
        note = f"{note[: LONGEST_NOTE - 2]} …"
    selection = Selection(trial=trial, note=note, at=datetime.now(UTC))
    study.set_user_attr(f"{SELECTION_OF}{trial}", selection.model_dump(mode="json"))
    study.set_user_attr(SELECTION, trial)


def withdraw_trial(study: optuna.Study, trial: int) -> None:
    """Take the selection of ``trial`` back; raises ``StudyError`` where there is none.

    Its full run is not begun any more, and not taken up again where it was interrupted.
    """
    attributes = study.user_attrs
    left = selections(attributes)
    if trial not in left:
        raise StudyError(f"the trial must be a selected one ({list(left)}), but got {trial}")
    del left[trial]
    if attributes[SELECTION] == trial:
        study.set_user_attr(SELECTION, next(reversed(left), None))
    study.set_user_attr(f"{SELECTION_OF}{trial}", None)


def selected(study: optuna.Study) -> int | None:
    """The number of the trial that was selected last, which is exported."""
    number: int | None = study.user_attrs.get(SELECTION)
    return number


def selections(attributes: Mapping[str, Any]) -> dict[int, Selection]:
    """The selections among a study's user attributes by trial, the last one last."""
    found = [
        read_stored(Selection, value, key)
        for key, value in attributes.items()
        if key.startswith(SELECTION_OF) and value is not None
    ]
    last = attributes.get(SELECTION)
    if last is not None and last not in {selection.trial for selection in found}:
        found.append(Selection(trial=last))
    first = datetime.min.replace(tzinfo=UTC)
    return {selection.trial: selection for selection in sorted(found, key=lambda s: s.at or first)}


def full_runs(attributes: Mapping[str, Any]) -> dict[int, FullRun]:
    """The full runs among a study's user attributes by trial: those that have begun, and those that wait.

    They have the note that their trial has now, and are in the order in which they were selected.
    """
    stored = [
        read_stored(FullRun, value, key) for key, value in attributes.items() if key.startswith(FULL_RUN_OF)
    ]
    begun = {run.trial: run for run in stored}
    selected = selections(attributes)
    found = {trial: run for trial, run in begun.items() if trial not in selected}
    for trial, selection in selected.items():
        run = begun.get(trial)
        if run is None or (run.state is RunState.FAILED and run.selection.at != selection.at):
            found[trial] = FullRun(selection=selection)
        else:
            found[trial] = run.model_copy(update={"selection": selection})
    return found


def claim(study: optuna.Study, run: FullRun, worker: str, folder: Path) -> FullRun | None:
    """``run`` as that of ``worker`` from now on; None where it is no longer what it was."""
    with study_lock(study):
        if full_runs(study.user_attrs).get(run.trial) != run:
            return None
        now = datetime.now(UTC)
        mine = run.model_copy(
            update={
                "state": RunState.RUNNING,
                "worker": worker,
                "folder": str(folder),
                "began": run.began or now,
                "heartbeat": now,
                "ended": None,
            }
        )
        study.set_user_attr(f"{FULL_RUN_OF}{run.trial}", mine.model_dump(mode="json"))
    return mine


def write(study: optuna.Study, run: FullRun) -> bool:
    """Write ``run`` for its worker; False where another one has taken it over."""
    key = f"{FULL_RUN_OF}{run.trial}"
    if study.user_attrs[key]["worker"] != run.worker:
        return False
    study.set_user_attr(key, run.model_dump(mode="json"))
    return True
