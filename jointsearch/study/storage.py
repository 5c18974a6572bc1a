"""Opens the storage that studies live in: SQLite by default, any SQLAlchemy URL else.

SQLite ignores ``SELECT … FOR UPDATE``, so two processes can be handed the same waiting trial; here
every transaction takes the write lock when it begins, and waits for it instead of failing.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from jointsearch.config import DEFAULT_STORAGE
from jointsearch.errors import StorageError
from jointsearch.search.experimental import experimental_optuna
from jointsearch.search.samplers import enqueued_attributes
from jointsearch.study.records import PLAN_ATTRIBUTES, RETRY_OF

HEARTBEAT_SECONDS = 10
STALE_SECONDS = 60
LOCK_WAIT_MILLISECONDS = 60_000

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str, *, create: bool = False) -> RDBStorage:
    """The storage at ``url``; raises ``StorageError`` where it cannot be reached.

    Without ``create`` a SQLite file that is not there is an error, not an empty storage.
    """
    try:
        parsed = make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(f"the storage must be a URL such as {DEFAULT_STORAGE}, but got '{url}'") from None
    path = _sqlite_path(parsed)
    if path is not None and not create and not path.is_file():
        raise StorageError(f"there is no storage at {parsed}; `jointsearch study start` makes one")
    if path is not None and not path.parent.is_dir():
        raise StorageError(f"the folder of the storage {parsed} must be there; create {path.parent}")
    lock = FileLock(f"{path}.lock") if create and path is not None else nullcontext()
    try:
        with lock, experimental_optuna():
            storage = RDBStorage(
                url,
                skip_table_creation=not create,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=STALE_SECONDS,
                heartbeat_stale_trial_callback=requeue,
            )
    except (ImportError, RuntimeError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise StorageError(
            f"the storage {parsed} must be reachable and hold studies, but {_reason(error)}"
        ) from None
    if path is not None:
        event.listen(storage.engine, "connect", _set_up_connection)
        event.listen(
            storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
        storage.engine.dispose()  # the connection that created the tables was not set up
    return storage


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Give a trial that was lost or interrupted back to the queue, as a new trial."""
    kept = {key: value for key, value in trial.user_attrs.items() if key in PLAN_ATTRIBUTES}
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**kept, RETRY_OF: trial.number},
            system_attrs=enqueued_attributes(),
        )
    )


def _sqlite_path(url: URL) -> Path | None:
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


def _set_up_connection(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={LOCK_WAIT_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _take_write_lock(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: BaseException) -> str:
    """The driver's own words, without statements and links."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] or type(error).__name__
