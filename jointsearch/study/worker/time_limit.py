"""A wall-clock limit for a trial, also for one that hangs where nobody asks whether it should stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_SECONDS = 60.0
"""How long a trial may take to notice that its time is over."""

HUNG = 3
"""The exit status of a worker whose trial hung."""

_log = logging.getLogger(__name__)


@contextmanager
def time_limit(seconds: float | None, give_up: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Gives whether the time is over; a trial that asks between its steps can end by itself.

    One that does not within ``GRACE_SECONDS`` hangs: a thread cannot end it, so ``give_up()`` is called
    from another one, and the process ends with the status ``HUNG``, for its launcher to start anew.
    """
    if seconds is None:
        yield lambda: False
        return
    deadline = time.monotonic() + seconds

    def end() -> None:
        _log.error("the trial hangs; this worker ends")
        give_up()
        os._exit(HUNG)

    timer = threading.Timer(min(seconds + GRACE_SECONDS, threading.TIMEOUT_MAX), end)
    timer.daemon = True
    timer.start()
    try:
        yield lambda: time.monotonic() > deadline
    finally:
        timer.cancel()
