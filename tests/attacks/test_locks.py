"""Locks that others hold for longer than workers wait for them."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sqlalchemy import create_engine, text

from attacks.claims import Faults, faults
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.stored import StoredStudy

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Make = Callable[..., Any]

LONG_SECONDS = 240
"""For what happens in the end, on a machine however busy."""


@contextmanager
def lock_file(study: StoredStudy, url: str) -> Iterator[None]:
    with FileLock(f"{url.removeprefix('sqlite:///')}.lock"):
        yield


@contextmanager
def write_lock(study: StoredStudy, url: str) -> Iterator[None]:
    connection = sqlite3.connect(Path(url.removeprefix("sqlite:///")), isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@contextmanager
def advisory_lock(study: StoredStudy, url: str) -> Iterator[None]:
    with study_lock(study.optuna_study):
        yield


@contextmanager
def table_lock(study: StoredStudy, url: str) -> Iterator[None]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(text("LOCK TABLE trials IN ACCESS EXCLUSIVE MODE"))
            yield
    finally:
        engine.dispose()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("any_url", "lock"),
    [
        ("sqlite", lock_file),
        ("sqlite", write_lock),
        ("postgresql", advisory_lock),
        ("postgresql", table_lock),
    ],
    indirect=["any_url"],
)
def test_locks(any_url: str, lock: Make, make: Make, fleet: Make, sized: Callable[[int, int], int]) -> None:
    """Three workers wait, with the limits of a test or for 150 s with the usual ones; one is to leave."""
    seconds = sized(4, 150)
    study = make(any_url, 40)
    usual = {} if seconds < 150 else {"lock_seconds": 60.0}
    workers = fleet(any_url, study.name, **usual)
    workers.start(3)
    while len(study.records().complete) < 10:
        time.sleep(0.02)
    with lock(study, any_url):
        time.sleep(seconds)
        workers.sweep()
        assert [workers.log(process) for process in workers.left] == []
        asked = workers.living[0]
        workers.signal(asked, signal.SIGTERM)
        asked.join(3 * workers.lock_seconds)
        if asked.is_alive():  # it has a result, and waits for the database until it is told again
            workers.signal(asked, signal.SIGTERM)
            asked.join(LONG_SECONDS)
        assert asked.exitcode in (0, 130), workers.log(asked)
    workers.join()
    assert sorted(workers.statuses()) == [0, 0, asked.exitcode], [
        workers.log(process) for process in workers.left
    ]
    assert faults(study) == Faults()
    print(f"{lock.__name__} held {seconds} s; who was asked to leave meanwhile: status {asked.exitcode}")
