from __future__ import annotations

import gc
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from jointsearch.errors import StorageError
from jointsearch.search.attributes import COPY_OF
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.queue import requeue
from jointsearch.study.storage.heartbeats import STALE_SECONDS
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import study_names
from jointsearch.study.worker.stale import StaleTrials

Create = Callable[..., StoredStudy]

Together = Callable[..., list[list[str]]]


@pytest.fixture
def in_processes(launch: Callable[..., Any], wait_for: Callable[..., None], tmp_path: Path) -> Together:
    """The lines that as many processes, let loose at the same moment, print after their start."""

    def run(
        num_processes: int, *arguments: str | Path, meanwhile: Callable[[], None] = lambda: None
    ) -> list[list[str]]:
        logs = [tmp_path / f"log{number}" for number in range(num_processes)]
        processes = [launch(*arguments, log=log.name, held=True) for log in logs]
        wait_for(lambda: all("ready" in log.read_text() for log in logs))
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        meanwhile()
        statuses = [process.wait() for process in processes]
        assert statuses == [0] * num_processes, [log.read_text() for log in logs]
        return [log.read_text().splitlines()[1:] for log in logs]

    return run


def test_four_processes_never_run_the_same_trial(
    create: Create, url: str, in_processes: Together, wait_for: Callable[..., None], gate: Any
) -> None:
    study = create(
        search={"trials": 24, "sampler": "nsga2"}, search_space={"bits": [4, 8, 16], "ranks": [0, 2, 4, 8]}
    )
    assert len(study.records().waiting) == 12

    def race() -> None:
        wait_for(lambda: len(study.records().running) == 4)
        gate.open()

    lines = in_processes(4, "work", url, study.name, "--gate", gate.folder, meanwhile=race)

    records = study.records()
    assert records.running == records.failed == ()
    # each of the other workers may have begun its last trial at the same moment
    assert 24 <= len(records.complete) <= 24 + 3
    ran = Counter(line.split()[1] for process in lines for line in process if line.startswith("ran "))
    originals = Counter(t.digest for t in records.complete if COPY_OF not in t.frozen.user_attrs)
    assert ran == originals  # a trial that was handed out twice would have run twice
    baselines = [trial for trial in records.trials if trial.origin.name]
    assert len(baselines) == 12
    assert {trial.state for trial in baselines} == {TrialState.COMPLETE}
    assert {ran[trial.digest] for trial in baselines if COPY_OF not in trial.frozen.user_attrs} == {1}


def test_four_processes_open_an_empty_database_at_once(tmp_path: Path, in_processes: Together) -> None:
    lines = in_processes(4, "open", f"sqlite:///{tmp_path}/new.db")
    assert lines == [["studies 0"]] * 4
    assert (tmp_path / "new.db").is_file()


def test_transactions_take_the_write_lock(storage: RDBStorage, url: str, tmp_path: Path) -> None:
    """SQLite ignores SELECT … FOR UPDATE: a reader that is to write must hold the lock from its start."""
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM studies")
        other = sqlite3.connect(tmp_path / "studies.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    assert study_names(open_storage(url)) == []


def test_requeue_keeps_the_plan_and_forgets_the_rest(create: Create) -> None:
    study = create()
    with experimental_optuna():
        trial = study.optuna_study.ask()
    trial.set_user_attr("failure", "stopped")
    requeue(study.optuna_study, study.optuna_study.tell(trial, state=TrialState.FAIL))
    before, after = study.records().trials[0], study.records().trials[-1]
    assert after.state == TrialState.WAITING
    trials = study.optuna_study.trials
    assert trials[-1].params == trials[0].params
    assert (after.plan, after.digest, after.origin.name) == (before.plan, before.digest, before.origin.name)
    assert after.failure == ""
    assert after.frozen.user_attrs["retry_of"] == 0


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_stale_trial_comes_back(create: Create, storage: RDBStorage) -> None:
    study = create()
    with experimental_optuna():
        trial = study.optuna_study.ask()  # and its worker dies after one heartbeat
    storage.record_heartbeat(trial._trial_id)
    clock = Clock()
    stale = StaleTrials(study.optuna_study, clock)
    stale.recover()
    clock.now += STALE_SECONDS - 1
    stale.recover()
    assert study.records().trials[0].state == TrialState.RUNNING
    clock.now += 2
    stale.recover()
    stale.recover()
    records = study.records()
    assert records.trials[0].state == TrialState.FAIL
    assert records.failed == ()
    assert [t.origin.name for t in records.waiting].count("uniform 4-bit rank 0") == 1


def test_a_trial_whose_worker_dies_before_its_first_heartbeat_comes_back(create: Create) -> None:
    study = create()
    with experimental_optuna():
        study.optuna_study.ask()
    clock = Clock()
    stale = StaleTrials(study.optuna_study, clock)
    stale.recover()
    clock.now += STALE_SECONDS + 1
    stale.recover()
    assert study.records().trials[0].state == TrialState.FAIL
    assert study.records().waiting[-1].origin.name == "uniform 4-bit rank 0"


@pytest.mark.parametrize("jump", ["-5 hours", "+5 hours"])
def test_the_clock_of_the_database_may_jump(create: Create, storage: RDBStorage, jump: str) -> None:
    """Heartbeats that are hours off, but change, are those of a living worker."""
    study = create()
    with experimental_optuna():
        trial = study.optuna_study.ask()
    clock = Clock()
    stale = StaleTrials(study.optuna_study, clock)
    for beat in range(6):
        with storage.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM trial_heartbeats")
            connection.exec_driver_sql(
                "INSERT INTO trial_heartbeats (trial_id, heartbeat) "
                f"VALUES ({trial._trial_id}, datetime('now', '{jump}', '+{beat} seconds'))"
            )
        stale.recover()
        clock.now += STALE_SECONDS / 2
    assert study.records().trials[0].state == TrialState.RUNNING
    clock.now += STALE_SECONDS
    stale.recover()
    assert study.records().trials[0].state == TrialState.FAIL


def message(url: str, *, create: bool = False) -> str:
    with pytest.raises(StorageError) as caught:
        open_storage(url, create=create)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_missing_file_is_not_made_by_looking(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    assert message(url) == f"there is no storage at {url}; `jointsearch study start` makes one"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/s.db"
    assert (
        message(url, create=True) == f"the folder of the storage {url} must be there; create {tmp_path}/none"
    )


@pytest.mark.parametrize("create", [False, True])
def test_a_file_that_is_no_database(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database\n" * 100)
    content = path.read_bytes()
    assert "file is not a database" in message(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == content


def test_a_database_without_studies_is_refused_unless_created(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    assert "must be reachable and hold studies" in message(f"sqlite:///{path}")
    assert study_names(open_storage(f"sqlite:///{path}", create=True)) == []


def test_a_storage_that_cannot_be_opened_leaves_no_connection(postgres_url: str) -> None:
    """psycopg warns of a connection that is collected while it is open."""
    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert "must be reachable and hold studies" in message(postgres_url)
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:hunter2@localhost:1/studies",
        "postgresql+psycopg2://someone:hunter2@localhost:1/studies",
        "postgresql://localhost:1/studies?user=someone&password=hunter2",
        "postgresql://someone:hunter2@localhost:port/studies",
        "postgresql://someone:secret@hunter2@localhost:1/studies",
        "postgresql//someone:hunter2@localhost:1/studies",
        "nosuchdriver://someone:hunter2@localhost/studies",
        "postgresql://someone:hunter2\n@localhost:1/studies",
        "postgresql://someone:\nhunter2@localhost:1/studies",
        "postgresql://some\none:hunter2@localhost:port/studies",
        "postgresql:someone:hunter2@localhost:1/studies",
        "postgresql:\n//someone:hunter2@localhost:1/studies",
        "postgresql://localhost:1/studies?user=someone\n&password=hunter2",
    ],
)
def test_a_password_is_never_shown(url: str, create: bool) -> None:
    text = message(url, create=create)
    assert "storage" in text
    assert "hunter2" not in text


def test_what_is_no_url_is_refused() -> None:
    assert message("") == "the storage must be a URL such as sqlite:///jointsearch.db, but got ''"
    assert "such as sqlite:///jointsearch.db" in message("studies.db")
