"""Workers that attacks are made on: processes of milliseconds, whose results tell which study they are of.

A process is forked from one that has imported everything, so that hundreds can be killed in a minute.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

from jointsearch import creating, starting
from jointsearch.cli import main
from jointsearch.errors import JointSearchError, TrialInterrupted, first_line
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import Trial
from jointsearch.study import control
from jointsearch.study.storage import database, heartbeats, locks, outages
from jointsearch.study.storage.identity import IDENTITY
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import load_study
from jointsearch.study.worker import loop
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Action = Callable[[str, str, Path, float], None]

FIXTURES = Path(__file__).parents[1] / "fixtures"
STALE_SECONDS = 2.0

# Python 3.11's server of forks has no other way to find this module, and would let every child import all
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
spawner = multiprocessing.get_context("forkserver")
spawner.set_forkserver_preload(["attacks.workers"])


def expected_loss(identity: str, plan: Plan, seed: int) -> float:
    """What a trial of the study of that identity must have: another study has another loss."""
    drawn = hashlib.sha256(f"{identity}/{plan.digest}/{seed}".encode()).digest()
    return 1.0 + int.from_bytes(drawn[:6]) / 2**48


@dataclass(frozen=True)
class TellingRunner:
    """Measures ``expected_loss`` within some milliseconds, and notes the end of each run in a file."""

    layout: ModelLayout
    url: str
    name: str
    folder: Path
    longest_seconds: float
    notes: tuple[str, ...] = ()

    @cached_property
    def identity(self) -> str:
        """That of the study as it is stored when its first trial runs."""
        found = outages.outlast(lambda: load_study(self.name, self.url).optuna_study.user_attrs[IDENTITY])
        return str(found)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        identity = self.identity
        end = time.monotonic() + random.uniform(0, self.longest_seconds)
        while time.monotonic() < end:
            if trial.should_stop():
                raise TrialInterrupted("asked to stop")
            time.sleep(0.002)
        with (self.folder / "ran").open("a") as file:
            file.write(f"{identity} {plan.digest} {trial.seed} {os.getpid()}\n")
        loss = expected_loss(identity, plan, trial.seed)
        measured = FakeRunner(self.layout).run(plan, trial)
        return measured.model_copy(update={"metrics": {**measured.metrics, "loss": loss}})

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        return FakeRunner(layout).sensitivities(layout, rank)


def work(url: str, name: str, folder: Path, longest_seconds: float) -> None:
    """A worker of a study that is there."""

    def load() -> tuple[StoredStudy, str]:
        found = load_study(name, url)
        assert found.layout  # read while the storage is waited for
        return found, found.optuna_study.user_attrs[IDENTITY]

    loaded = outages.outlast(load)
    assert loaded is not None
    study, identity = loaded
    runner = TellingRunner(study.layout, url, name, folder, longest_seconds)
    vars(runner)["identity"] = identity  # of this very study, whatever has its name by now
    worker = Worker(study, runner)
    with stop_on_signals(worker):
        worker.run()


def start(url: str, name: str, folder: Path, longest_seconds: float) -> None:
    """``jointsearch study start`` of the file in the folder."""
    layout = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
    runner = TellingRunner(layout, url, name, folder, longest_seconds)
    sys.argv = ["jointsearch", "study", "start", str(folder / "study.yaml"), "--storage", url]
    with (
        mock.patch.object(starting, "build_runner", lambda config, layout, tell: runner),
        mock.patch.object(starting, "num_gpus", lambda: 0),
        mock.patch.object(creating, "read_layout", lambda config: layout),
        mock.patch.object(creating, "read_memory", lambda config, layout: None),
    ):
        main()


def run(action: Action, folder: Path, lock_seconds: float, words: tuple[str, str, Path, float]) -> None:
    """One process; its status is that of the command line: 0, 2 after a line, 130 when it was told twice to
    leave, 1 after a traceback."""
    heartbeats.HEARTBEAT_SECONDS, heartbeats.STALE_SECONDS = 0.2, STALE_SECONDS
    database.LOCK_WAIT_SECONDS = locks.LOCK_WAIT_SECONDS = lock_seconds
    locks.PATIENCE_SECONDS = min(lock_seconds, locks.PATIENCE_SECONDS)
    outages.FIRST_WAIT_SECONDS, outages.LONGEST_WAIT_SECONDS = 0.02, 0.5
    control.POLL_SECONDS, loop.POLL_SECONDS = 0.2, 0.05
    with (folder / f"{os.getpid()}.log").open("w", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    status = 0
    try:
        action(*words)
    except JointSearchError as error:
        print("Error:", first_line(error), flush=True)
        status = 2
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except SystemExit as left:
        status = int(left.code or 0)
    except BaseException as error:
        traceback.print_exc()
        status = 2 if outages.of_database(error) else 1
        print("Error:", first_line(error), flush=True)
    sys.stderr.flush()
    os._exit(status)


@dataclass
class Fleet:
    """Workers of one study."""

    url: str
    name: str
    folder: Path
    """Where each has a log, and all the file ``ran``."""
    longest_seconds: float = 0.02
    """Of a trial."""
    lock_seconds: float = 1.0
    """That they wait for a lock at once."""
    action: Action = work
    living: list[BaseProcess] = field(default_factory=list)
    left: list[BaseProcess] = field(default_factory=list)
    """By themselves."""

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            words = (self.url, self.name, self.folder, self.longest_seconds)
            process = spawner.Process(
                target=run, args=(self.action, self.folder, self.lock_seconds, words), daemon=True
            )
            process.start()
            self.living.append(process)

    def sweep(self) -> None:
        """Set those aside that have left."""
        self.left += [process for process in self.living if not process.is_alive()]
        self.living = [process for process in self.living if process.is_alive()]

    def kill(self, process: BaseProcess) -> bool:
        """Whether it was killed, and had not left before."""
        process.kill()
        process.join()
        self.living.remove(process)
        if process.exitcode != -signal.SIGKILL:
            self.left.append(process)
        return process.exitcode == -signal.SIGKILL

    def signal(self, process: BaseProcess, number: int) -> None:
        assert process.pid is not None
        with suppress(ProcessLookupError):  # it has just left
            os.kill(process.pid, number)

    def join(self, seconds: float = 120) -> None:
        """Wait until all have left by themselves."""
        deadline = time.monotonic() + seconds
        for process in self.living:
            process.join(max(0.0, deadline - time.monotonic()))
            assert not process.is_alive(), f"a worker is stuck: {self.log(process)}"
        self.sweep()

    def who_ran(self) -> set[str]:
        """Workers that have measured something."""
        ran = self.folder / "ran"
        return {line.split()[-1] for line in ran.read_text().splitlines()} if ran.exists() else set()

    def log(self, process: BaseProcess) -> str:
        path = self.folder / f"{process.pid}.log"
        return path.read_text() if path.exists() else ""

    def statuses(self) -> list[int | None]:
        """Of those that have left by themselves."""
        return [process.exitcode for process in self.left]

    def close(self) -> None:
        for process in self.living:
            self.signal(process, signal.SIGKILL)
            process.join()
