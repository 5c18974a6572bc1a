"""Whether a database has the tables of the Optuna that runs.

Optuna tells with alembic, whose import takes longer than all the rest, and only where it may create tables.
Here the revision that alembic has written is compared with the newest that Optuna brings along.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import optuna
from optuna.storages import _rdb
from optuna.storages._rdb.models import SCHEMA_VERSION
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from jointsearch.errors import StorageError
from jointsearch.study.storage.urls import redacted


def check_schema(url: str, engine: Engine | None = None) -> None:
    """Raise ``StorageError`` where another version of Optuna has made the tables; without any it is fine."""
    own = engine or create_engine(url, poolclass=NullPool)
    with own.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        if "version_info" not in tables:
            return
        row = connection.execute(text("SELECT schema_version, library_version FROM version_info")).first()
        stamped = "alembic_version" in tables
        revision = (
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if stamped else None
        )
    if row is None or revision == revisions()[-1] or (revision is None and row[0] == SCHEMA_VERSION):
        return
    if revision is None or revision in revisions():
        fix = f"keep a copy, then run `optuna storage upgrade --storage {redacted(url)}`"
    else:
        fix = "install that one or a newer one"
    raise StorageError(
        f"the storage {redacted(url)} must have the tables of Optuna {optuna.__version__}, but Optuna "
        f"{row[1]} has made them; {fix}"
    )


@cache
def revisions() -> tuple[str, ...]:
    """Those of the tables that Optuna knows, the newest last."""
    files = (Path(_rdb.__file__).parent / "alembic" / "versions").glob("v*.py")
    names = [path.stem.rstrip("_") for path in files]
    return tuple(sorted(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)] + [ord(name[-1])]))
