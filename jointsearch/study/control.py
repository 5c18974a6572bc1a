"""What a person wants of a study's workers, wherever they run: an attribute of the study that they poll.

run      take trials
pause    finish the running trial, then wait
stop     finish the running trial, then leave
cancel   give the running trial back to the queue, then leave
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache

import optuna

from jointsearch.errors import StorageError, StudyGone, either
from jointsearch.study.storage.outages import outlast, repeat

WANTED = "wanted"
POLL_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Wanted(StrEnum):
    """The state that workers bring their study to."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"
    CANCEL = "cancel"


def want(study: optuna.Study, state: Wanted) -> None:
    """Tell the workers of ``study``, also those on other machines; they see it within seconds."""
    study.set_user_attr(WANTED, state.value)


def wanted(study: optuna.Study, known: Wanted = Wanted.RUN) -> Wanted:
    """What is wanted now; ``known``, what was wanted before, where only another version knows it."""
    value = study.user_attrs.get(WANTED, Wanted.RUN)
    try:
        return Wanted(value)
    except ValueError:
        _warn(repr(value))
        return known


@cache
def _warn(value: str) -> None:
    """Once: workers look every few seconds."""
    _log.warning("the wanted state must be %s, but got %s, which is ignored", either(Wanted), value)


@contextmanager
def watch(study: optuna.Study, tell: Callable[[Wanted], None]) -> Iterator[None]:
    """Tell what is wanted, now and whenever it changes, from a thread of its own."""
    known = outlast(lambda: wanted(study)) or Wanted.RUN
    tell(known)

    def look() -> None:
        nonlocal known
        try:
            now = wanted(study, known)
        except (StudyGone, StorageError):
            tell(Wanted.CANCEL)  # nobody can store what is still being done
            raise
        if now is not known:
            known = now
            tell(now)

    with repeat(look, POLL_SECONDS):
        yield
