"""Opens the storage that studies live in: a SQLite file by default, PostgreSQL, or a proxy before either."""

from __future__ import annotations

from contextlib import nullcontext

import optuna
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from jointsearch.errors import StorageError, first_line
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.database import Database
from jointsearch.study.storage.locks import creation_lock
from jointsearch.study.storage.outages import root_cause
from jointsearch.study.storage.proxy import open_proxied
from jointsearch.study.storage.schema import check_schema
from jointsearch.study.storage.urls import is_proxy, redacted, secrets, sqlite_path


def open_storage(url: str, *, create: bool = False) -> BaseStorage:
    """The storage at ``url``; raises ``StorageError`` where it cannot be reached.

    ``grpc://host:port`` is that of ``jointsearch storage proxy``. Without ``create`` a SQLite file that is
    not there is an error, not an empty storage.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for every trial is not for users
    if is_proxy(url):
        return open_proxied(url)
    path = sqlite_path(url)
    if path is not None and not create and not path.is_file():
        raise StorageError(f"there is no storage at {redacted(url)}; `jointsearch study start` makes one")
    _check_folder(url)
    try:
        if path is None or (path.is_file() and path.stat().st_size):
            check_schema(url)  # before there is a lock file beside it
        with creation_lock(url) if create else nullcontext(), experimental_optuna():
            return Database(url, create=create)
    except (ImportError, RuntimeError, OSError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = _reason(error, url)
        raise StorageError(
            f"the storage {redacted(url)} must be reachable and hold studies, but {reason}"
        ) from None


def open_if_there(url: str) -> BaseStorage | None:
    """The storage to run a study in; None for a SQLite file that is yet to be made.

    A study that cannot run should leave no file behind, but hear about a bad storage at once.
    """
    path = None if is_proxy(url) else sqlite_path(url)
    if path is not None and not path.is_file():
        _check_folder(url)
        return None
    return open_storage(url, create=True)


def _check_folder(url: str) -> None:
    path = sqlite_path(url)
    if path is not None and not path.parent.is_dir():
        raise StorageError(f"the folder of the storage {redacted(url)} must be there; create {path.parent}")


def _reason(error: BaseException, url: str) -> str:
    """The driver's own words, without statements, links and what is secret in ``url``."""
    reason = first_line(root_cause(error))
    for secret in secrets(url):
        reason = reason.replace(secret, "***")
    return reason
