"""Opens the storage that studies live in: SQLite by default, any SQLAlchemy URL else.

SQLite ignores ``SELECT … FOR UPDATE``, so two processes can be handed the same waiting trial; here
every transaction takes the write lock when it begins, and waits for it instead of failing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import storage as rdb
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from jointsearch.errors import StorageError, first_line
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.liveness import HEARTBEAT_SECONDS, STALE_SECONDS
from jointsearch.study.storage.locks import LOCK_WAIT_MILLISECONDS, creation_lock, redacted, sqlite_path
from jointsearch.study.storage.proxy import GRPC, open_proxied

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str, *, create: bool = False) -> BaseStorage:
    """The storage at ``url``; raises ``StorageError`` where it cannot be reached.

    ``grpc://host:port`` is that of ``jointsearch storage proxy``. Without ``create`` a SQLite file that is
    not there is an error, not an empty storage.
    """
    if url.startswith(GRPC):
        return open_proxied(url)
    shown = redacted(url)
    path = sqlite_path(url)
    if path is not None and not create and not path.is_file():
        raise StorageError(f"there is no storage at {shown}; `jointsearch study start` makes one")
    if path is not None:
        _check_folder(path, url)
    try:
        with creation_lock(url) if create else _without_migrations(), experimental_optuna():
            storage = _Database(
                url,
                skip_table_creation=not create,
                skip_compatibility_check=not create,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=STALE_SECONDS,
                engine_kwargs={} if path is not None else {"pool_pre_ping": True},
            )
    except (ImportError, RuntimeError, OSError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = _reason(error, url)
        raise StorageError(f"the storage {shown} must be reachable and hold studies, but {reason}") from None
    if path is not None and os.access(path, os.W_OK) and make_url(url).query.get("mode") != "ro":
        event.listen(storage.engine, "connect", _set_up_connection)
        event.listen(storage.engine, "begin", _take_write_lock)
        storage.engine.dispose()  # the connection that created the tables was not set up
    return storage


class _Database(RDBStorage):
    """Closes its connections also where it cannot be opened."""

    def __init__(self, url: str, **options: Any) -> None:
        try:
            super().__init__(url, **options)
        except BaseException:
            if engine := getattr(self, "engine", None):
                engine.dispose()
            raise


def open_if_there(url: str) -> BaseStorage | None:
    """The storage to run a study in; None for a SQLite file that is yet to be made.

    A study that cannot run should leave no file behind, but hear about a bad storage at once.
    """
    path = None if url.startswith(GRPC) else sqlite_path(url)
    if path is not None and not path.is_file():
        _check_folder(path, url)
        return None
    return open_storage(url, create=True)


def _check_folder(path: Path, url: str) -> None:
    if not path.parent.is_dir():
        raise StorageError(f"the folder of the storage {redacted(url)} must be there; create {path.parent}")


@contextmanager
def _without_migrations() -> Iterator[None]:
    """Open a storage that is there without importing alembic, which takes longer than all the rest.

    Optuna imports it to stamp a new storage with its version and to check an old one's; both happen when
    a study is started.
    """

    class Unchecked(rdb._VersionManager):
        def _init_alembic(self) -> None:
            pass

    original, rdb._VersionManager = rdb._VersionManager, Unchecked  # type: ignore[misc]
    try:
        yield
    finally:
        rdb._VersionManager = original  # type: ignore[misc]


def _set_up_connection(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={LOCK_WAIT_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _take_write_lock(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: BaseException, url: str) -> str:
    """The driver's own words, without statements, links and what is secret in ``url``."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = first_line(error)
    user_info = re.search(r"//(.*)@", url)
    secrets = re.split("[:@]", user_info[1])[1:] if user_info else []
    for secret in filter(None, secrets):
        reason = reason.replace(secret, "***")
    return reason
