"""SQLite and PostgreSQL as Optuna's storage.

SQLite ignores ``SELECT … FOR UPDATE``, so two processes can be handed the same waiting trial; here
every transaction takes the write lock when it begins, and waits for it instead of failing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._rdb.models import VersionInfoModel
from optuna.storages._rdb.storage import _create_scoped_session
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import scoped_session, sessionmaker

from jointsearch.errors import StorageError
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.urls import sqlite_path

LOCK_WAIT_SECONDS = 60
"""For SQLite's write lock, for PostgreSQL's own, and for a lock that is a file."""


class Database(RDBStorage):
    """A database of Optuna's tables; closes its connections also where it cannot be opened."""

    def __init__(self, url: str, *, create: bool) -> None:
        """``create``: make tables that are not there, and check the version of those that are."""
        path = sqlite_path(url)
        options = {} if path is not None else {"pool_pre_ping": True}
        try:
            if create:
                super().__init__(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=heartbeats.HEARTBEAT_SECONDS,
                    grace_period=heartbeats.STALE_SECONDS,
                )
            else:
                self._open(url, options)
        except BaseException:
            if engine := getattr(self, "engine", None):
                engine.dispose()
            raise
        if path is not None:
            look = _still_there(path)
            event.listen(self.engine, "do_connect", look)  # SQLite would make a new file
            event.listen(self.engine, "begin", look)
        if self.engine.name == "postgresql":
            event.listen(self.engine, "connect", _set_up_session)
            self.engine.dispose()
        if path is not None and os.access(path, os.W_OK) and make_url(url).query.get("mode") != "ro":
            event.listen(self.engine, "connect", _set_up_connection)
            event.listen(self.engine, "begin", _take_write_lock)
            self.engine.dispose()  # the connection that looked at the tables was not set up

    def _open(self, url: str, options: dict[str, Any]) -> None:
        """What ``RDBStorage`` does where the tables are there, but without alembic.

        Optuna stamps a new storage with alembic's version and compares an old one's; importing alembic takes
        longer than all the rest. Both happen when a study is started.
        """
        self._use(create_engine(self._fill_storage_url_template(url), **options), options)
        with _create_scoped_session(self.scoped_session) as session:
            VersionInfoModel.find(session)  # fails where there are no tables

    def of_study(self, check: Callable[[Connection], None]) -> Database:
        """The same database for one study, whose transactions all begin with ``check``."""
        own = Database.__new__(Database)
        own._use(self.engine, self.engine_kwargs)

        def look(_session: Any, _transaction: Any, connection: Connection) -> None:
            check(connection)

        event.listen(own.scoped_session.session_factory, "after_begin", look)
        return own

    def _use(self, engine: Engine, options: dict[str, Any]) -> None:
        self.url = engine.url.render_as_string(hide_password=False)
        self.engine_kwargs = options
        self.skip_compatibility_check = True
        self.heartbeat_interval = heartbeats.HEARTBEAT_SECONDS
        self.grace_period = heartbeats.STALE_SECONDS
        self.heartbeat_stale_trial_callback = self.failed_trial_callback = None
        self.engine = engine
        self.scoped_session = scoped_session(sessionmaker(bind=engine))


def _still_there(path: Path) -> Callable[..., None]:
    """Raises ``StorageError`` once the file is not the one that was opened."""

    def identity() -> tuple[int, int] | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    opened = identity()

    def look(*_: Any) -> None:
        if identity() != opened:
            raise StorageError(
                f"the storage {path} must stay where it is while it is used, but it was removed or replaced; "
                "nothing more is stored"
            )

    return look


def _set_up_connection(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={1000 * LOCK_WAIT_SECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _set_up_session(connection: Any, _record: Any) -> None:
    """Of PostgreSQL. Heartbeats are stored, and compared, as times of its zone, which PGTZ may set."""
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(f"SET lock_timeout = '{LOCK_WAIT_SECONDS}s'")  # no signal ends a wait in the server
    connection.commit()  # a rollback would take it back


def _take_write_lock(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
