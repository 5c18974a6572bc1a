"""What goes wrong with workers and databases: real processes, a real PostgreSQL, real kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.search.attributes import COPY_OF
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.control import Wanted, want
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, open_study

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Configure = Callable[..., StudyConfig]
Launch = Callable[..., subprocess.Popen[str]]
Make = Callable[[str, int], StoredStudy]
WaitFor = Callable[..., None]

HEART_MAY_BE_SILENT_SECONDS = 8
"""Of a process of worker_process.py."""


def begin(processes: list[subprocess.Popen[str]]) -> None:
    """Let held processes loose at the same moment."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.fixture
def make(configure: Configure, layout: ModelLayout) -> Iterator[Make]:
    """A study of so many trials in the database of a URL."""
    opened = []

    def make(url: str, trials: int) -> StoredStudy:
        storage = open_storage(url, create=True)
        opened.append(storage)
        return create_study(storage, configure(search={"trials": trials}), layout)

    yield make
    for storage in opened:
        storage.engine.dispose()


def check_whole(study: StoredStudy, trials: int) -> None:
    """Every trial ended, as many as wanted are complete, and no plan ran to its end under two numbers."""
    records = study.records()
    assert not records.running
    assert len(records.complete) == trials
    assert records.failed == ()
    ran = Counter(t.digest for t in records.complete if COPY_OF not in t.frozen.user_attrs)
    assert max(ran.values()) == 1
    retried = [t.frozen.user_attrs[RETRY_OF] for t in records.trials if RETRY_OF in t.frozen.user_attrs]
    lost = [t.number for t in records.trials if t.state == TrialState.FAIL]
    # a late result of a trial that was taken for lost stands beside the one that the queue gave out
    assert sorted(set(retried)) == lost


def test_eight_processes_create_one_study(
    any_url: str, launch: Launch, wait_for: WaitFor, tmp_path: Path
) -> None:
    logs = [tmp_path / f"log{number}" for number in range(8)]
    processes = [launch("create", any_url, "small", log=log.name, held=True) for log in logs]
    wait_for(lambda: all("ready" in log.read_text() for log in logs))
    begin(processes)
    assert [process.wait() for process in processes] == [0] * 8, [log.read_text() for log in logs]
    assert ["trials 4" in log.read_text() for log in logs] == [True] * 8
    storage = open_storage(any_url)
    assert len(open_study(storage, "small").records().trials) == 4
    storage.engine.dispose()


def test_killed_workers_lose_nothing(
    any_url: str, make: Make, launch: Launch, wait_for: WaitFor, gate: Any, tmp_path: Path
) -> None:
    """Four workers, one killed at a random moment again and again, and another started in its place."""
    study = make(any_url, 40)
    chance = random.Random(1)

    def start() -> subprocess.Popen[str]:
        return launch("work", any_url, study.name, "--gate", gate.folder)

    workers = [start() for _ in range(4)]
    for num_killed in range(6):
        living = {f"{os.uname().nodename}:{worker.pid}" for worker in workers}
        wait_for(lambda names=living: names <= {trial.worker for trial in study.records().running})
        gate.let(4)
        # each of those that are killed may have taken a place in the gate without a result
        wait_for(lambda least=3 * num_killed + 1: len(study.records().complete) >= least)
        time.sleep(chance.uniform(0, 0.3))  # wherever its next trial is by then
        position = chance.randrange(4)
        workers[position].send_signal(signal.SIGKILL)
        workers[position].wait()
        workers[position] = start()
    gate.open()
    assert [worker.wait() for worker in workers] == [0] * 4, (tmp_path / "log").read_text()
    check_whole(study, 40)


def test_two_workers_do_not_both_take_the_last_trial(
    any_url: str, make: Make, launch: Launch, wait_for: WaitFor, gate: Any, tmp_path: Path
) -> None:
    study = make(any_url, 11)
    workers = [launch("work", any_url, study.name, "--gate", gate.folder) for _ in range(6)]
    wait_for(lambda: len(study.records().running) == 6)
    gate.open()  # all of them want one of the five that are left
    assert [worker.wait() for worker in workers] == [0] * 6, (tmp_path / "log").read_text()
    check_whole(study, 11)


def test_a_person_pauses_resumes_stops_and_cancels(
    any_url: str, make: Make, launch: Launch, wait_for: WaitFor, gate: Any, tmp_path: Path
) -> None:
    study = make(any_url, 1000)
    logs = [tmp_path / f"log{number}" for number in range(2)]
    workers = [launch("work", any_url, study.name, "--gate", gate.folder, log=log.name) for log in logs]

    def see(wanted: Wanted) -> None:
        """Both look twice more at what is wanted: what they have seen first has reached them."""
        seen = [log.read_text().count(f"wanted {wanted}") for log in logs]
        wait_for(
            lambda: all(
                log.read_text().count(f"wanted {wanted}") >= before + 2
                for log, before in zip(logs, seen, strict=True)
            )
        )

    gate.let(2)
    wait_for(lambda: len(study.records().complete) == len(study.records().running) == 2)
    want(study.optuna_study, Wanted.PAUSE)
    see(Wanted.PAUSE)
    gate.open()
    wait_for(lambda: not study.records().running)
    assert len(study.records().complete) == 4  # what they had begun, they have finished
    see(Wanted.PAUSE)
    see(Wanted.PAUSE)
    assert len(study.records().complete) == 4
    assert not study.records().running
    assert [worker.poll() for worker in workers] == [None, None]
    want(study.optuna_study, Wanted.RUN)
    wait_for(lambda: len(study.records().complete) > 4)
    want(study.optuna_study, Wanted.STOP)
    assert [worker.wait() for worker in workers] == [0, 0], [log.read_text() for log in logs]
    records = study.records()
    assert not records.running
    assert not records.failed
    assert len(records.complete) < 1000


def test_a_database_that_goes_away_loses_no_result(
    own_postgres: tuple[str, Callable[[], None], Callable[[], None]],
    make: Make,
    launch: Launch,
    wait_for: WaitFor,
    gate: Any,
    tmp_path: Path,
) -> None:
    """The server stops while trials run, and comes back: the workers wait, and write what they have."""
    url, stop_server, start_server = own_postgres
    study = make(url, 16)
    logs = [tmp_path / f"log{number}" for number in range(2)]
    workers = [launch("work", url, study.name, "--gate", gate.folder, log=log.name) for log in logs]
    gate.let(3)
    wait_for(lambda: len(study.records().complete) == 3 and len(study.records().running) == 2)
    stop_server()
    gate.let(2)  # both trials end, and have a result
    wait_for(lambda: all("trying again" in log.read_text() for log in logs))
    time.sleep(HEART_MAY_BE_SILENT_SECONDS + 1)
    assert [worker.poll() for worker in workers] == [None, None], [log.read_text() for log in logs]
    start_server()
    gate.open()
    assert [worker.wait() for worker in workers] == [0, 0], [log.read_text() for log in logs]
    storage = open_storage(url)
    check_whole(open_study(storage, study.name), 16)
    storage.engine.dispose()
    ran = [line for log in logs for line in log.read_text().splitlines() if line.startswith("ran")]
    assert len(ran) == len(set(ran))  # what was measured while the server was away was not measured again
