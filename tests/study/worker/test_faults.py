"""What goes wrong with workers and databases: real processes, a real PostgreSQL, real kills."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from optuna.trial import TrialState

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.control import Wanted
from jointsearch.study.records import COPY_OF, RETRY_OF
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import JointStudy, create_study, open_study

PROCESS = Path(__file__).parents[1] / "worker_process.py"

Configure = Callable[..., StudyConfig]


def start(action: str, url: str, *words: str, log: Path | None = None) -> subprocess.Popen[str]:
    """A process that waits for a line before it begins; its output goes to ``log`` or a pipe."""
    command = [sys.executable, str(PROCESS), action, url, *words]
    with nullcontext(subprocess.PIPE) if log is None else log.open("a") as output:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, text=True
        )


def begin(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
        process.stdin = None


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def make(configure: Configure, layout: ModelLayout) -> Iterator[Callable[[str, int], JointStudy]]:
    """A study of so many trials in the database of a URL."""
    opened = []

    def make(url: str, trials: int) -> JointStudy:
        storage = open_storage(url, create=True)
        opened.append(storage)
        return create_study(storage, configure(search={"trials": trials}), layout)

    yield make
    for storage in opened:
        storage.engine.dispose()


def check_whole(study: JointStudy, trials: int) -> None:
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


def test_eight_processes_create_one_study(any_url: str) -> None:
    processes = [start("create", any_url, "small") for _ in range(8)]
    begin(processes)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert ["trials 4" in output for output in outputs] == [True] * 8, outputs
    storage = open_storage(any_url)
    assert len(open_study(storage, "small").records().trials) == 4
    storage.engine.dispose()


def test_killed_workers_lose_nothing(
    any_url: str, make: Callable[[str, int], JointStudy], tmp_path: Path
) -> None:
    """Four workers, one killed at a random moment again and again, and another started in its place."""
    study = make(any_url, 40)
    chance = random.Random(1)
    log = tmp_path / "workers.log"
    workers = [start("work", any_url, study.name, "0.2", log=log) for _ in range(4)]
    begin(workers)
    num_killed = 0
    deadline = time.monotonic() + 240
    while any(worker.poll() is None for worker in workers):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(chance.uniform(0.5, 1.5))
        living = [position for position, worker in enumerate(workers) if worker.poll() is None]
        if living and num_killed < 6 and "ran" in log.read_text():
            position = chance.choice(living)
            workers[position].send_signal(signal.SIGKILL)
            workers[position].wait()
            num_killed += 1
            workers[position] = start("work", any_url, study.name, "0.2", log=log)
            begin([workers[position]])
    assert num_killed >= 3
    assert [worker.returncode for worker in workers] == [0] * 4, log.read_text()
    check_whole(study, 40)


def test_two_workers_do_not_both_take_the_last_trial(
    any_url: str, make: Callable[[str, int], JointStudy], tmp_path: Path
) -> None:
    study = make(any_url, 11)
    workers = [start("work", any_url, study.name, "0.1", log=tmp_path / "log") for _ in range(6)]
    begin(workers)
    assert [worker.wait(120) for worker in workers] == [0] * 6, (tmp_path / "log").read_text()
    check_whole(study, 11)


def test_a_person_pauses_resumes_stops_and_cancels(
    any_url: str, make: Callable[[str, int], JointStudy], tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    study = make(any_url, 1000)
    log = tmp_path / "log"
    workers = [start("work", any_url, study.name, "0.2", log=log) for _ in range(2)]
    begin(workers)
    wait_for(lambda: len(study.records().complete) >= 2)
    study.want(Wanted.PAUSE)
    wait_for(lambda: not study.records().running, 20)
    time.sleep(1)
    num_paused = len(study.records().trials)
    time.sleep(2)
    assert len(study.records().trials) == num_paused
    assert [worker.poll() for worker in workers] == [None, None]
    study.want(Wanted.RUN)
    wait_for(lambda: len(study.records().complete) > num_paused)
    study.want(Wanted.STOP)
    assert [worker.wait(30) for worker in workers] == [0, 0], log.read_text()
    records = study.records()
    assert not records.running
    assert not records.failed
    assert len(records.complete) < 1000


def test_a_database_that_goes_away_loses_no_result(
    own_postgres: tuple[str, Callable[[], None], Callable[[], None]],
    make: Callable[[str, int], JointStudy],
    tmp_path: Path,
    wait_for: Callable[..., None],
) -> None:
    """The server stops while trials run, and comes back: the workers wait, and write what they have."""
    url, stop_server, start_server = own_postgres
    study = make(url, 16)
    log = tmp_path / "log"
    workers = [start("work", url, study.name, "1.0", log=log) for _ in range(2)]
    begin(workers)
    wait_for(lambda: len(study.records().complete) >= 3)
    stop_server()
    time.sleep(6)  # longer than a heartbeat may be missing
    assert [worker.poll() for worker in workers] == [None, None], log.read_text()
    start_server()
    assert [worker.wait(120) for worker in workers] == [0, 0], log.read_text()
    storage = open_storage(url)
    check_whole(open_study(storage, study.name), 16)
    storage.engine.dispose()
    ran = [line for line in log.read_text().splitlines() if line.startswith("ran")]
    assert len(ran) == len(set(ran))  # what was measured while the server was away was not measured again
