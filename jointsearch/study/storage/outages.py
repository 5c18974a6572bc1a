"""Waiting for a database that is away: restarted, out of reach, or busy for too long."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.storages._rdb.models import NOT_FOUND_MSG
from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
)

from jointsearch.errors import StorageError, StudyGone, first_line


class Busy(TimeoutError):
    """A lock that others hold for long: an outage too, in which a worker can be asked to stop."""


READ_ONLY_FILE = "readonly database"
"""SQLite's words."""
READ_ONLY_SERVER = "read-only transaction"
"""PostgreSQL's words."""
ABORTED = "25P02"
"""PostgreSQL's code of in_failed_sql_transaction."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0

Result = TypeVar("Result")

_last_outage = -math.inf

_log = logging.getLogger(__name__)


def of_database(error: BaseException | None) -> BaseException | None:
    """The driver's error under Optuna's and SQLAlchemy's; None where the database is not at fault."""
    while error is not None:
        if (
            # the last where Optuna asks in another way in the session whose connection has just broken
            isinstance(error, OperationalError | InterfaceError | PendingRollbackError | Busy)
            or (isinstance(error, DBAPIError) and _is_refused(error))
            or _lacks_row(error)
            or type(error).__module__.startswith("grpc")
        ):
            return root_cause(error)
        error = error.__cause__
    return None


def _lacks_row(error: BaseException) -> bool:
    """Whether what was used belongs to a study that has just been deleted: the next try will say so."""
    if isinstance(error, IntegrityError):
        return "foreign key" in str(error.orig)
    return isinstance(error, KeyError) and error.args == (NOT_FOUND_MSG,)


def _is_refused(error: DBAPIError) -> bool:
    """Whether the connection is gone, the server can only be read, or a statement before has failed.

    Where Optuna cannot have a list of trials it asks in another way, which PostgreSQL refuses in the same
    transaction.
    """
    return (
        error.connection_invalidated
        or READ_ONLY_SERVER in str(error.orig)
        or getattr(error.orig, "sqlstate", None) == ABORTED
    )


def is_outage(error: BaseException | None) -> bool:
    """Whether the database was away.

    A full disk is an outage too: there may be room again. So is a server that can only be read, until it is
    promoted; a file that is read-only stays so.
    """
    found = of_database(error)
    return found is not None and READ_ONLY_FILE not in str(found)


def seconds_since_outage() -> float:
    """Since this process last found the database away; infinite if it never did."""
    return time.monotonic() - _last_outage


def _note_outage() -> None:
    global _last_outage
    _last_outage = time.monotonic()


def outlast(call: Callable[[], Result], give_up: Callable[[], bool] = lambda: False) -> Result | None:
    """``call()``, tried again for as long as the database is away; None once ``give_up()`` says so.

    What is called must do no harm if it is done twice: the answer to the first may have been lost.
    """
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return call()
        except Exception as error:
            if not is_outage(error):
                raise
            _note_outage()
            if give_up():
                return None
            reason = first_line(root_cause(error))
            _log.warning("the storage cannot be used (%s); trying again in %g s", reason, wait)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


@contextmanager
def repeat(call: Callable[[], object], seconds: float) -> Iterator[None]:
    """``call()`` every so many seconds inside the block, from a thread that outlives outages and errors."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(seconds):
            try:
                outlast(call, ended.is_set)
            except (StudyGone, StorageError):
                return  # for good; whoever works on the study is told so by what it does next
            except Exception as error:
                _log.warning("%s: %s", type(error).__name__, first_line(error))

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def root_cause(error: BaseException) -> BaseException:
    """The driver's own error, under those that SQLAlchemy and Optuna have made of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def damage(error: BaseException | None) -> BaseException | None:
    """What the driver has said of a damaged file; None where that is not what is wrong.

    It raises this very class then: its subclasses are what a wrong statement of ours would be.
    """
    while error is not None:
        if type(error) is DatabaseError:
            return root_cause(error)
        error = error.__cause__
    return None
