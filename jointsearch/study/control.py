"""What a person wants of a study's workers, wherever they run: an attribute of the study that they poll.

run      take trials
pause    finish the running trial, then wait
stop     finish the running trial, then leave
cancel   give the running trial back to the queue, then leave
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import optuna

from jointsearch.study.storage.outages import outlast

WANTED = "wanted"
POLL_SECONDS = 2.0


class Wanted(StrEnum):
    """The state that workers bring their study to."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"
    CANCEL = "cancel"


def want(study: optuna.Study, state: Wanted) -> None:
    """Tell the workers of ``study``, also those on other machines; they see it within seconds."""
    study.set_user_attr(WANTED, state.value)


def wanted(study: optuna.Study) -> Wanted:
    """What is wanted now."""
    return Wanted(study.user_attrs.get(WANTED, Wanted.RUN))


@contextmanager
def watch(study: optuna.Study, tell: Callable[[Wanted], None]) -> Iterator[None]:
    """Tell what is wanted, now and whenever it changes, from a thread of its own."""
    ended = threading.Event()

    def poll() -> None:
        before = None
        while True:
            now = outlast(lambda: wanted(study), ended.is_set)
            if now is not None and now != before:
                tell(now)
                before = now
            if ended.wait(POLL_SECONDS):
                return

    thread = threading.Thread(target=poll, daemon=True)
    tell(wanted(study))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
