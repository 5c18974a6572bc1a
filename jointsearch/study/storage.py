"""Opens the storage that studies live in: SQLite by default, any SQLAlchemy URL else.

SQLite ignores ``SELECT … FOR UPDATE``, so two processes can be handed the same waiting trial; here
every transaction takes the write lock when it begins, and waits for it instead of failing.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import storage as rdb
from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel
from optuna.trial import TrialState
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from jointsearch.config import DEFAULT_STORAGE
from jointsearch.errors import StorageError, first_line
from jointsearch.search.experimental import experimental_optuna
from jointsearch.study.proxy import GRPC, open_proxied

HEARTBEAT_SECONDS = 10
STALE_SECONDS = 60
LOCK_WAIT_MILLISECONDS = 60_000

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str, *, create: bool = False) -> BaseStorage:
    """The storage at ``url``; raises ``StorageError`` where it cannot be reached.

    ``grpc://host:port`` is that of ``jointsearch storage proxy``. Without ``create`` a SQLite file that is
    not there is an error, not an empty storage.
    """
    if url.startswith(GRPC):
        return open_proxied(url)
    shown = redacted(url)
    path = _sqlite_path(url)
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
    path = None if url.startswith(GRPC) else _sqlite_path(url)
    if path is not None and not path.is_file():
        _check_folder(path, url)
        return None
    return open_storage(url, create=True)


def _check_folder(path: Path, url: str) -> None:
    if not path.parent.is_dir():
        raise StorageError(f"the folder of the storage {redacted(url)} must be there; create {path.parent}")


@contextmanager
def creation_lock(url: str) -> Iterator[None]:
    """Held while tables or a study are created, so that processes that start together do it once."""
    if url.startswith(GRPC):
        yield
        return
    path = _sqlite_path(url)
    if path is not None:
        with FileLock(f"{path}.lock", timeout=LOCK_WAIT_MILLISECONDS / 1000):
            yield
        return
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name != "postgresql":
        yield
        return
    with _advisory_lock(engine, "creation"):
        yield


def redacted(url: str) -> str:
    """``url`` without user, password and options, also where it is not a valid URL."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def heartbeats(study: optuna.Study) -> dict[int, tuple[datetime | None, float | None]]:
    """The last heartbeat of every running trial, by id, and its age in seconds by the database's clock.

    None for a trial that has had none yet, and no trials at all behind a proxy, which sees to them itself.
    """
    engine = engine_of(study)
    if engine is None:
        return {}
    query = (
        select(TrialModel.trial_id, TrialHeartbeatModel.heartbeat, func.now())
        .outerjoin(TrialHeartbeatModel, TrialHeartbeatModel.trial_id == TrialModel.trial_id)
        .where(TrialModel.study_id == study._study_id, TrialModel.state == TrialState.RUNNING)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    # PostgreSQL's now() has a time zone, its column and SQLite have none
    return {
        trial: (beat, (now.replace(tzinfo=None) - beat).total_seconds() if beat else None)
        for trial, beat, now in rows
    }


def engine_of(study: optuna.Study) -> Engine | None:
    """The database of a study, which Optuna wraps in a cache; None behind a proxy."""
    backend: Any = getattr(study._storage, "_backend", study._storage)
    engine: Engine | None = getattr(backend, "engine", None)
    return engine


@contextmanager
def study_lock(study: optuna.Study) -> Iterator[None]:
    """Held by one worker of the study at a time, on all machines that share the database.

    There is none behind a proxy: two workers may then measure the same plan, or one trial more.
    """
    engine = engine_of(study)
    if engine is None:
        yield
    elif engine.dialect.name == "sqlite":
        with FileLock(f"{_sqlite_path(str(engine.url))}.lock", timeout=LOCK_WAIT_MILLISECONDS / 1000):
            yield
    else:
        with _advisory_lock(engine, study.study_name):
            yield


@contextmanager
def _advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """A lock of PostgreSQL's, which goes away with the connection that holds it."""
    key = {"key": zlib.crc32(f"jointsearch {name}".encode())}
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


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


def _sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; raises ``StorageError`` where ``url`` is none at all."""
    try:
        parsed = make_url(url)
        is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    except (SQLAlchemyError, ValueError):
        raise StorageError(
            f"the storage must be a URL such as {DEFAULT_STORAGE}, but got '{redacted(url)}'"
        ) from None
    if not is_file:
        return None
    database = str(parsed.database)
    # SQLite's own URIs, such as sqlite:///file:studies.db?mode=ro&uri=true
    return Path(database.removeprefix("file:") if "uri" in parsed.query else database)


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
