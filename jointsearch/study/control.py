"""What a person wants of a study's workers, wherever they run: an attribute of the study that they poll.

run      take trials
pause    finish the running trial, then wait
stop     finish the running trial, then leave
cancel   give the running trial back to the queue, then leave
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import optuna

from jointsearch.study.storage.outages import repeat

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
    known = wanted(study)
    tell(known)

    def look() -> None:
        nonlocal known
        now = wanted(study)
        if now is not known:
            known = now
            tell(now)

    with repeat(look, POLL_SECONDS):
        yield
