"""What a person or a program sees of workers: the status of a study, and logs as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from jointsearch.assemble import read_layout
from jointsearch.config.yaml_file import read_study
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study

Create = Callable[..., StoredStudy]
Command = Callable[..., Any]
Launch = Callable[..., subprocess.Popen[str]]
WaitFor = Callable[..., None]

QUICKSTART = Path(__file__).parents[3] / "jointsearch" / "quickstart"

STUDY = """
name: tiny
model: {{id: {model}}}
task: {{type: causal-lm, data: {{package: click}}, sequence_length: 64}}
search_space: {{bits: [8], ranks: [0, 2]}}
calibration: {{steps: 2, batch_size: 2, validation_examples: 4, warmup_steps: 0, learning_rate: 1.0e+30}}
search: {{sampler: random, trials: 2}}
device: cpu
"""


@pytest.fixture
def busy(create: Create, url: str, launch: Launch, wait_for: WaitFor, gate: Any) -> tuple[StoredStudy, int]:
    """A study with a failed trial and a worker, by its process number, at a trial that never ends."""
    study = create(search={"trials": 3})
    launch("work", url, study.name, "--fail").wait()
    worker = launch("work", url, study.name, "--gate", gate.folder)
    wait_for(lambda: [trial.worker for trial in study.records().running if trial.worker])
    return study, worker.pid


def test_status_names_workers_heartbeats_and_reasons(
    busy: tuple[StoredStudy, int], url: str, command: Command
) -> None:
    _, pid = busy

    def status(*options: str) -> str:
        done = command("study", "status", "small", "--storage", url, *options)
        assert done.stderr == ""
        return str(done.stdout)

    found = json.loads(status("--format", "json"))
    assert (found["complete"], found["running"], found["failed"], found["waiting"]) == (0, 1, 1, 2)
    assert (found["left"], found["wanted"], found["of"]) == (2, "run", 3)
    (worker,) = found["workers"]
    assert worker["worker"] == f"{os.uname().nodename}:{pid}"
    assert (worker["trial"], worker["label"]) == (1, "uniform 4-bit rank 4")
    assert 0 <= worker["heartbeat_age_seconds"] < 240
    assert 0 < worker["seconds"] < 240
    assert found["failures"] == {"0": "no measurement today"}

    table = status()
    rows = [" ".join(line.replace("│", " ").split()) for line in table.splitlines()]
    assert "trial 0 failed no measurement today" in rows
    (row,) = [row for row in rows if row.startswith(worker["worker"])]
    assert row.startswith(f"{worker['worker']} 1 uniform 4-bit rank 4 0:0")


@pytest.mark.slow
@pytest.mark.alone
def test_watching_ends_with_the_study(
    busy: tuple[StoredStudy, int], url: str, launch: Launch, wait_for: WaitFor, tmp_path: Path
) -> None:
    _, pid = busy
    watching = subprocess.Popen(
        [sys.executable, "-m", "jointsearch", "study", "status", "small", "--watch", "--format", "json"],
        env={**os.environ, "JOINTSEARCH_STORAGE": url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    os.kill(pid, signal.SIGKILL)
    assert launch("work", url, "small").wait() == 0
    rest, _ = watching.communicate()
    assert watching.returncode == 0
    lines = [first, *map(json.loads, rest.splitlines())]
    assert (lines[0]["running"], lines[0]["left"]) == (1, 2)
    assert (lines[-1]["complete"], lines[-1]["failed"], lines[-1]["left"]) == (2, 1, 0)
    assert lines[-1]["workers"] == []


def events(text: str) -> list[dict[str, Any]]:
    """Every line is an event, and none tells the password."""
    assert "hunter2" not in text
    found = [json.loads(line) for line in text.splitlines()]
    assert [event for event in found if not {"time", "level", "event"} <= event.keys()] == []
    return found


@pytest.fixture
def secret_url(postgres_url: str) -> str:
    """The database with a password, which a server that trusts everyone does not read."""
    url = make_url(postgres_url)
    return url.set(password=url.password or "hunter2").render_as_string(hide_password=False)


@pytest.fixture
def worker(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A worker of the study 'tiny' in the storage of a URL."""

    def work(url: str, status: int = 0) -> Any:
        monkeypatch.setenv("JOINTSEARCH_STORAGE", url)
        return command("worker", "tiny", "--log-format", "json", status=status)

    return work


@pytest.fixture
def tiny(secret_url: str, tmp_path: Path) -> Iterator[StoredStudy]:
    """A study of two real trials: one trains nothing and completes, the other one diverges."""
    file = tmp_path / "tiny.yaml"
    file.write_text(STUDY.format(model=QUICKSTART / "model"))
    config = read_study(file)
    storage = open_storage(secret_url, create=True)
    yield create_study(storage, config, read_layout(config))
    storage.engine.dispose()


def test_every_line_of_a_workers_log_is_json(
    tiny: StoredStudy, secret_url: str, worker: Callable[..., Any]
) -> None:
    done = worker(secret_url)
    assert done.stdout == ""
    found = [event for event in events(done.stderr) if "worker" in event]
    complete, failed = tiny.records().trials
    assert [(event["event"], event.get("trial")) for event in found] == [
        ("worker started", None),
        ("trial started", 0),
        ("trial complete", 0),
        ("trial started", 1),
        ("trial failed", 1),
        ("worker left", None),
    ]
    assert {(event["study"], event["worker"]) for event in found} == {("tiny", complete.worker)}
    assert [found[1]["plan"], found[3]["plan"]] == [complete.digest, failed.digest]
    assert found[2]["values"] == complete.values
    assert found[4]["reason"] == failed.failure
    assert failed.failure.startswith("diverged")


@pytest.mark.parametrize(
    "url",
    ["postgresql://someone:hunter2@localhost:1/studies", "nosuchdriver://someone:hunter2@localhost/studies"],
)
def test_a_worker_that_cannot_begin_says_so_in_json(url: str, worker: Callable[..., Any]) -> None:
    done = worker(url, status=2)
    assert done.stdout == ""
    (event,) = events(done.stderr)
    assert event["level"] == "ERROR"
    assert "the storage " in event["event"]
