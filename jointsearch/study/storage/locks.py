"""Locks that all workers of a study share, on whatever machine they are."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from jointsearch.config.study import DEFAULT_STORAGE
from jointsearch.errors import StorageError
from jointsearch.study.storage.proxy import GRPC

LOCK_WAIT_MILLISECONDS = 60_000

TAKEN = "taken"
"""Attribute of a study: locks that were taken behind a proxy."""


@contextmanager
def creation_lock(url: str) -> Iterator[None]:
    """Held while tables or a study are created, so that processes that start together do it once."""
    if url.startswith(GRPC):
        yield
        return
    path = sqlite_path(url)
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
        with FileLock(f"{sqlite_path(str(engine.url))}.lock", timeout=LOCK_WAIT_MILLISECONDS / 1000):
            yield
    else:
        with _advisory_lock(engine, study.study_name):
            yield


@contextmanager
def try_study_lock(study: optuna.Study, name: str) -> Iterator[bool]:
    """Another lock of the study, for as long as one likes; False where someone else holds it.

    It goes away with its process. Behind a proxy, which has no locks, the first to come has it for good.
    """
    engine = engine_of(study)
    if engine is None:
        first = name not in study.user_attrs.get(TAKEN, [])
        if first:
            study.set_user_attr(TAKEN, [*study.user_attrs.get(TAKEN, []), name])
        yield first
    elif engine.dialect.name == "sqlite":
        lock = FileLock(f"{engine.url.database}.{study.study_name}.{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
    else:
        key = {"key": zlib.crc32(f"jointsearch {study.study_name} {name}".encode())}
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            held = bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar())
            try:
                yield held
            finally:
                with suppress(DBAPIError):  # the server has gone, and the lock with it
                    if held:
                        connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


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


def sqlite_path(url: str) -> Path | None:
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
