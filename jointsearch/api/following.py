"""Tells callbacks of the trials that end while a study is optimized."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from optuna.trial import FrozenTrial

from jointsearch.starting import Audience
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.events import Listener

Callback = Callable[[Any, FrozenTrial], None]
"""Told of the ``Study`` and a trial that has ended, in whatever state; may call ``Study.stop``. Optuna's
callbacks fit."""


class Followed(Protocol):
    """The ``Study`` as far as it is asked here."""

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]: ...

    def stop(self) -> None: ...


class Following(Audience):
    """Listens to the workers of a study."""

    def __init__(self, study: Followed, callbacks: Sequence[Callback], timeout: float | None) -> None:
        """``timeout``: seconds from now on after which no trial begins."""
        self._study = study
        self._callbacks = callbacks
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._told: set[int] | None = None

    def following(self, study: StoredStudy, trials: int) -> AbstractContextManager[Listener]:
        return nullcontext(self)

    def __call__(self, records: StudyRecords) -> None:
        ended = {trial.number for trial in records.trials if trial.state.is_finished()}
        if self._told is None:  # what had ended before is no news
            self._told = set(ended)
        news = sorted(ended - self._told)
        self._told |= ended
        if news and self._callbacks:
            whole = self._study.get_trials(deepcopy=False)  # the records' trials have no parameters
            for number in news:
                for callback in self._callbacks:
                    callback(self._study, whole[number])
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._study.stop()
