"""Launchers place real processes: on this machine, on a local Ray, as jobs of submitit's local executor."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from fixtures.processes import WORKER_PROCESS, Gate
from jointsearch.cli.study.start import start
from jointsearch.errors import UnsupportedError
from jointsearch.launchers import LAUNCHERS, MAX_RESTARTS, Fleet, Launcher, run_workers
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.control import Wanted, want
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord

TRIALS = 12

Create = Callable[..., StoredStudy]


@dataclass(frozen=True)
class TestFleet(Fleet):
    """A fleet whose workers have the fake runner, or run any other command."""

    __test__ = False

    study: str = "small"
    storage_url: str = ""
    devices: tuple[str, ...] = ("cpu", "cpu")
    look: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = lambda note: None
    drain: Callable[[], None] = lambda: None
    options: dict[str, str] = field(default_factory=dict)
    instead: tuple[str, ...] = ()
    gate: str = ""

    @property
    def command(self) -> list[str]:
        worker = [sys.executable, str(WORKER_PROCESS), "run", self.study, "--gate", self.gate]
        return [sys.executable, *self.instead] if self.instead else worker


NewFleet = Callable[..., TestFleet]

ALONE = (pytest.mark.slow, pytest.mark.alone)
EACH = ["local", pytest.param("ray", marks=ALONE), "slurm"]


@pytest.fixture
def launched(create: Create, url: str, tmp_path: Path, gate: Gate) -> Iterator[tuple[StoredStudy, NewFleet]]:
    """A study, and how to make a fleet for it, whose workers hold at the gate; none outlives the test."""
    study = create(search={"trials": TRIALS})
    slurm = {"cluster": "local", "folder": str(tmp_path / "jobs")}

    def fleet(launcher: str, **fields: object) -> TestFleet:
        options = slurm if launcher == "slurm" else {}
        return TestFleet(**{"storage_url": url, "options": options, "gate": str(gate.folder), **fields})  # type: ignore[arg-type]

    before = set(psutil.Process().children(recursive=True))
    yield study, fleet
    for process in set(psutil.Process().children(recursive=True)) - before:
        with suppress(psutil.NoSuchProcess):
            process.kill()


class Killer:
    """Kills one of two workers at their trials, and opens the gate when another one has come."""

    def __init__(self, study: StoredStudy, gate: Gate) -> None:
        self._study = study
        self._gate = gate
        self.killed: list[TrialRecord] = []

    def __call__(self) -> None:
        running = [trial for trial in self._study.records().running if trial.worker]
        living = {trial.worker for trial in running} - {trial.worker for trial in self.killed}
        if len(living) < 2:
            return
        if self.killed:
            self._gate.open()
        else:
            self.killed.append(running[0])
            os.kill(int(running[0].worker.rpartition(":")[2]), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("launcher", EACH)
def test_a_killed_worker_is_started_again_and_its_trial_retried(
    launched: tuple[StoredStudy, NewFleet], launcher: str, gate: Gate
) -> None:
    study, fleet = launched
    killer = Killer(study, gate)
    assert run_workers(launcher, fleet(launcher, look=killer))
    records = study.records()
    killed = [trial.number for trial in killer.killed]
    assert len(killed) == 1
    states = [(trial.number, trial.state.name, trial.worker) for trial in records.trials]
    assert [trial.number for trial in records.trials if trial.state == TrialState.FAIL] == killed, states
    retried = [trial.frozen.user_attrs.get(RETRY_OF) for trial in records.trials]
    assert [number for number in retried if number is not None] == killed
    assert len(records.complete) == TRIALS
    assert len({trial.worker for trial in records.complete} - {killer.killed[0].worker}) == 2


@pytest.mark.parametrize("launcher", EACH)
def test_a_worker_that_always_dies_stays_away(
    launched: tuple[StoredStudy, NewFleet], launcher: str, tmp_path: Path
) -> None:
    _, fleet = launched
    log, told = tmp_path / "log", list[str]()
    die = f"import sys; open({str(log)!r}, 'a').write('x'); sys.exit(1)"
    assert not run_workers(launcher, fleet(launcher, devices=("cpu",), instead=("-c", die), tell=told.append))
    assert log.read_text() == "x" * (1 + MAX_RESTARTS)
    assert "stays away" in told[-1]


@pytest.mark.parametrize("launcher", EACH)
def test_a_mistake_is_not_tried_again(
    launched: tuple[StoredStudy, NewFleet], launcher: str, tmp_path: Path
) -> None:
    _, fleet = launched
    log = tmp_path / "log"
    refuse = f"import sys; open({str(log)!r}, 'a').write('x'); sys.exit(2)"
    assert not run_workers(launcher, fleet(launcher, devices=("cpu",), instead=("-c", refuse)))
    assert log.read_text() == "x"


@pytest.mark.parametrize(
    "launcher", ["local", *(pytest.param(name, marks=ALONE) for name in ("ray", "slurm"))]
)
def test_ctrl_c_drains_the_workers(launched: tuple[StoredStudy, NewFleet], launcher: str, gate: Gate) -> None:
    """Every worker gives its trial back and leaves; the next start goes on."""
    study, fleet = launched
    gate.let(2)
    pressed: list[int] = []

    def press() -> None:
        records = study.records()
        if not pressed and len(records.complete) == len(records.running) == 2:
            pressed.append(1)
            signal.raise_signal(signal.SIGINT)

    def drain() -> None:
        want(study.optuna_study, Wanted.CANCEL)

    assert not run_workers(launcher, fleet(launcher, look=press, drain=drain))
    records = study.records()
    assert pressed
    assert not records.running
    assert len(records.complete) == 2
    assert not records.failed
    gate.open()
    want(study.optuna_study, Wanted.RUN)
    assert run_workers(launcher, fleet(launcher))
    assert Counter(trial.state for trial in study.records().trials)[TrialState.COMPLETE] == TRIALS


def test_a_worker_sees_its_device_alone(
    launched: tuple[StoredStudy, NewFleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fleet = launched
    log = tmp_path / "log"
    tell = (
        "import os, sys; assert sys.argv[1:] == ['--device', 'cuda']; "
        f"open({str(log)!r}, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ')"
    )
    devices = ("cuda:0", "cuda:1", "cuda:1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert run_workers("local", fleet("local", devices=devices, instead=("-c", tell)))
    assert sorted(log.read_text().split()) == ["0", "1", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")  # somebody has given us these two
    log.unlink()
    assert run_workers("local", fleet("local", devices=devices, instead=("-c", tell)))
    assert sorted(log.read_text().split()) == ["5", "7", "7"]


def test_the_storage_is_in_no_file_of_a_job(launched: tuple[StoredStudy, NewFleet], tmp_path: Path) -> None:
    _, fleet = launched
    secret = "postgresql://user:verysecret@nowhere/db"
    show = "import os; print(len(os.environ['JOINTSEARCH_STORAGE']))"
    assert run_workers("slurm", fleet("slurm", storage_url=secret, devices=("cpu",), instead=("-c", show)))
    assert "JOINTSEARCH_STORAGE" not in os.environ  # nor in the environment of who submits
    written = [path.read_bytes() for path in (tmp_path / "jobs").rglob("*") if path.is_file()]
    assert any(str(len(secret)).encode() in text for text in written)
    assert not any(b"verysecret" in text for text in written)


def test_slurm_without_sbatch_is_a_line(
    launched: tuple[StoredStudy, NewFleet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="needs sbatch on this machine"):
        run_workers("slurm", TestFleet())


def test_a_wrong_slurm_parameter_is_a_line(tmp_path: Path) -> None:
    options = {"cluster": "local", "folder": str(tmp_path), "partitoin": "gpu"}
    with pytest.raises(UnsupportedError, match="partitoin"):
        run_workers("slurm", TestFleet(options=options))


STUDY_FILE = Path(__file__).parents[1] / "fixtures" / "study.yaml"


@pytest.mark.parametrize("option", ["--launcher-option", "--slurm"])
def test_options_reach_a_launcher_that_has_some(
    option: str, create: Create, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create()
    fleets: list[Fleet] = []
    kept = Launcher("slurm", lambda fleet: fleets.append(fleet) is None, takes_options=True)
    monkeypatch.setattr(LAUNCHERS, "_items", LAUNCHERS._items | {"slurm": kept})
    given = [option, "slurm_partition=gpu", option, "slurm_comment=a=b"]
    command = [str(STUDY_FILE), "--storage", url, "--launcher", "slurm", *given]
    CliRunner().invoke(start, command)
    (fleet,) = fleets
    assert dict(fleet.options) == {"slurm_partition": "gpu", "slurm_comment": "a=b"}


def test_options_of_a_launcher_that_has_none_are_a_line(create: Create, url: str) -> None:
    create()
    command = [str(STUDY_FILE), "--storage", url, "--launcher-option", "partition=gpu"]
    result = CliRunner().invoke(start, command)
    assert isinstance(result.exception, UnsupportedError)
    assert "local has none, and got partition" in str(result.exception)


def test_an_option_without_a_value_is_a_line(url: str) -> None:
    command = [str(STUDY_FILE), "--storage", url, "--launcher", "slurm", "--slurm", "partition"]
    result = CliRunner().invoke(start, command)
    assert result.exit_code == 2
    assert "must be KEY=VALUE, but got 'partition'" in result.output
