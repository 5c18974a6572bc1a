"""The loop of every worker, whether of trials or of full runs: work, wait, and leave when it is time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TypeVar

import optuna

from jointsearch.study.control import Wanted, watch
from jointsearch.study.storage.outages import outlast

POLL_SECONDS = 1.0

Result = TypeVar("Result")


class Step(Enum):
    """How a step of a worker has ended."""

    DONE = auto()
    """A piece of work has come to its end."""
    IDLE = auto()
    """There is none now."""
    OVER = auto()
    """There will be none any more."""


class WorkLoop:
    """Takes one step after another until there is nothing left to do, or someone wants an end."""

    def __init__(
        self, study: optuna.Study, *, max_done: int | None = None, idle_exit_seconds: float = math.inf
    ) -> None:
        """``max_done``: leave after so many pieces; ``idle_exit_seconds``: after waiting for so long."""
        self._study = study
        self._max_done = max_done
        self._idle_exit_seconds = idle_exit_seconds
        self._stop = threading.Event()
        self._leaving = False
        self._wanted = Wanted.RUN

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """End what runs, and the loop, at the next opportunity."""
        self._stop.set()

    def leave(self) -> None:
        """End the loop once what runs has come to its end."""
        self._leaving = True

    @property
    def may_begin(self) -> bool:
        """Whether a new piece of work is wanted now; while the study is paused there is none."""
        return self._wanted is Wanted.RUN and not self._leaving

    @contextmanager
    def obeying(self) -> Iterator[None]:
        """Follow what a person wants of the study's workers, inside the block."""
        with watch(self._study, self._hear):
            yield

    def run(self, step: Callable[[], Step]) -> int:
        """Step until the end; how many pieces of work were done."""
        num_done = 0
        idle_since = time.monotonic()
        while not (self.stopping or self._leaving) and self._wanted not in (Wanted.STOP, Wanted.CANCEL):
            match step():
                case Step.OVER:
                    break
                case Step.DONE:
                    num_done += 1
                    idle_since = time.monotonic()
                    if num_done == self._max_done:
                        break
                case Step.IDLE:
                    if self._leaving:
                        break
                    if time.monotonic() - idle_since >= self._idle_exit_seconds:
                        break
                    self.wait()
        return num_done

    def wait(self) -> None:
        """For a moment, or until ``stop``."""
        self._stop.wait(POLL_SECONDS)

    def outlast(self, call: Callable[[], Result]) -> Result | None:
        """``call()``, however long the database is away; None once the worker is to stop meanwhile."""
        return outlast(call, lambda: self.stopping)

    def _hear(self, wanted: Wanted) -> None:
        self._wanted = wanted
        if wanted is Wanted.CANCEL:
            self.stop()
