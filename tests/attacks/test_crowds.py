"""Many workers that begin at the same moment on an empty database, and servers that go while they work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from attacks.claims import Faults, faults
from attacks.workers import FIXTURES, start
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import open_study, study_names

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Make = Callable[..., Any]
OwnServer = tuple[str, Callable[[], None], Callable[[], None]]


def write_study(folder: Path, trials: int) -> None:
    values = yaml.safe_load((FIXTURES / "study.yaml").read_text())
    values["search"]["trials"] = trials
    (folder / "study.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("more_than_trials", [False, True])
def test_starts_of_one_file(
    any_url: str, fleet: Make, sized: Callable[[int, int], int], more_than_trials: bool
) -> None:
    """So many ``study start`` of one file at once: one study, and exactly the trials that it asks for."""
    num_starts = sized(12, 40 if more_than_trials else 20)
    trials = sized(9, 35) if more_than_trials else sized(60, 160)
    workers = fleet(any_url, action=start, lock_seconds=600.0)
    write_study(workers.folder, trials)
    started = time.monotonic()
    workers.start(num_starts)
    workers.join(600)
    assert workers.statuses() == [0] * num_starts, [workers.log(process) for process in workers.left]
    storage = open_storage(any_url)
    assert study_names(storage) == ["small"]
    study = open_study(storage, "small")
    assert faults(study) == Faults()
    # on a busy machine a worker may be taken for gone, and its trial is then there twice, failed and complete
    assert sum(trial.state != TrialState.FAIL for trial in study.records().trials) == trials
    storage.engine.dispose()
    print(f"{num_starts} starts, {trials} trials, {time.monotonic() - started:.0f} s")


def test_a_server_that_is_stopped_and_started(
    own_postgres: OwnServer, make: Make, fleet: Make, sized: Callable[[int, int], int]
) -> None:
    """So many times, in an orderly way, while three workers are at a study."""
    url, stop_server, start_server = own_postgres
    times = sized(2, 10)
    study = make(url, 30 * times)
    workers = fleet(url)
    workers.start(3)
    complete = 0
    for _ in range(times):
        while len(study.records().complete) < complete + 10:
            time.sleep(0.05)
        study.optuna_study._storage._backend.engine.dispose()
        stop_server()
        time.sleep(0.5)
        start_server()
        complete = len(study.records().complete)
    workers.join()
    assert workers.statuses() == [0] * 3, [workers.log(process) for process in workers.left]
    assert faults(study) == Faults()
    print(f"{times} stops and starts of the server, {30 * times} trials")


def test_a_server_that_can_only_be_read_for_a_while(postgres_url: str, make: Make, fleet: Make) -> None:
    """As a standby is until it is promoted."""
    study = make(postgres_url, 60)
    workers = fleet(postgres_url)
    workers.start(3)
    name = make_url(postgres_url).database
    admin = create_engine(make_url(postgres_url).set(database="postgres"), isolation_level="AUTOCOMMIT")

    def set_read_only(value: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}"))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": name},
            )

    while len(study.records().complete) < 10:
        time.sleep(0.05)
    set_read_only("on")
    while not all("read-only" in workers.log(process) for process in workers.living):
        workers.sweep()
        assert len(workers.living) == 3, [workers.log(process) for process in workers.left]
        time.sleep(0.05)
    set_read_only("off")
    workers.join()
    admin.dispose()
    assert workers.statuses() == [0] * 3, [workers.log(process) for process in workers.left]
    assert faults(study) == Faults()
