"""Locks that all workers of a study share, on whatever machine they are.

A lock is a file beside a SQLite database, an advisory lock of PostgreSQL's, or, behind a proxy, which has
no locks, an attribute of the study. The first two go away with the process that holds them.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol

import optuna
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from jointsearch.errors import StorageError
from jointsearch.files import as_file_name
from jointsearch.study.storage.database import LOCK_WAIT_SECONDS
from jointsearch.study.storage.internals import engine_of
from jointsearch.study.storage.outages import Busy
from jointsearch.study.storage.urls import is_proxy, sqlite_path

TAKEN = "taken"
"""Attribute of a study: locks that were taken behind a proxy."""

PATIENCE_SECONDS = 10.0
"""That a worker waits for a lock before it asks whether it is to stop, and waits again."""
ASK_SECONDS = 0.05
"""Between two tries of PostgreSQL's lock."""


class Lock(Protocol):
    """Held by one at a time."""

    def hold(self, patience_seconds: float) -> AbstractContextManager[None]:
        """Wait for the lock and hold it inside the block; raises ``Busy`` after so long."""
        ...

    def try_hold(self) -> AbstractContextManager[bool]:
        """Hold the lock inside the block for as long as one likes; False where someone else holds it."""
        ...


def creation_lock(url: str) -> AbstractContextManager[None]:
    """Held while tables or a study are created, so that processes that start together do it once."""
    if is_proxy(url):
        return nullcontext()  # who creates a study twice is told so
    path = sqlite_path(url)
    lock: Lock = (
        AdvisoryLock(create_engine(url, poolclass=NullPool), "creation")
        if path is None
        else LockFile(f"{path}.lock")
    )
    return lock.hold(LOCK_WAIT_SECONDS)


def study_lock(study: optuna.Study) -> AbstractContextManager[None]:
    """Held by one worker of the study at a time, on all machines that share the database.

    Raises ``Busy``, which is an outage, where others hold it for long. Behind a proxy nobody waits: two
    workers may then measure the same plan, or one trial more.
    """
    return _lock_of(study).hold(PATIENCE_SECONDS)


def try_study_lock(study: optuna.Study, name: str) -> AbstractContextManager[bool]:
    """Another lock of the study. Behind a proxy the first to come has it for good."""
    return _lock_of(study, name).try_hold()


def _lock_of(study: optuna.Study, name: str = "") -> Lock:
    engine = engine_of(study)
    if engine is None:
        return AttributeLock(study, name)
    path = sqlite_path(str(engine.url))
    if path is None:
        return AdvisoryLock(engine, f"{study.study_name} {name}".rstrip())
    # without a name it is the lock of all that is in the file, which creation takes too
    return LockFile(f"{path}.{as_file_name(study.study_name)}.{name}.lock" if name else f"{path}.lock")


class LockFile:
    """For processes that share a file system."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def hold(self, patience_seconds: float) -> Iterator[None]:
        lock = FileLock(self._path)
        try:
            lock.acquire(timeout=patience_seconds)
        except Timeout:
            raise Busy(f"another process holds {self._path}") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def try_hold(self) -> Iterator[bool]:
        lock = FileLock(self._path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


class AdvisoryLock:
    """PostgreSQL's; it goes away with the connection that holds it."""

    def __init__(self, engine: Engine, name: str) -> None:
        if engine.dialect.name != "postgresql":
            raise StorageError(
                "the storage must be a SQLite file or PostgreSQL, whose locks all workers share, but got "
                f"{engine.dialect.name}"
            )
        self._engine = engine
        self._key = {"key": zlib.crc32(f"jointsearch {name}".encode())}

    @contextmanager
    def hold(self, patience_seconds: float) -> Iterator[None]:
        with self._connect() as connection:
            # asked again and again, because no signal ends a wait inside of the server
            deadline = time.monotonic() + patience_seconds
            while not self._try(connection):
                if time.monotonic() > deadline:
                    raise Busy("another connection holds the lock of the study")
                time.sleep(ASK_SECONDS)
            try:
                yield
            finally:
                # fails where the lock went with its server: what was done under it is to be done again
                self._release(connection)

    @contextmanager
    def try_hold(self) -> Iterator[bool]:
        with self._connect() as connection:
            held = self._try(connection)
            try:
                yield held
            finally:
                with suppress(DBAPIError):  # the server has gone, and the lock with it
                    if held:
                        self._release(connection)

    def _connect(self) -> Connection:
        """Without a transaction, which would be open for as long as the lock is held."""
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def _try(self, connection: Connection) -> bool:
        return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), self._key).scalar())

    def _release(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), self._key)


class AttributeLock:
    """As well as it goes behind a proxy: nobody waits, and the first to come has it for good."""

    def __init__(self, study: optuna.Study, name: str) -> None:
        self._study = study
        self._name = name

    @contextmanager
    def hold(self, patience_seconds: float) -> Iterator[None]:
        yield

    @contextmanager
    def try_hold(self) -> Iterator[bool]:
        taken = self._study.user_attrs.get(TAKEN, [])
        first = self._name not in taken
        if first:
            self._study.set_user_attr(TAKEN, [*taken, self._name])
        yield first
