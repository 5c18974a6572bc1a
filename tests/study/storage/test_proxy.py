"""Optuna's gRPC storage proxy: heartbeats that it lacks, workers that die behind it, no proxy at all."""

from __future__ import annotations

import builtins
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from jointsearch.config.study import StudyConfig
from jointsearch.errors import StorageError, StudyGone, UnsupportedError
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.storage import writing
from jointsearch.study.storage.heartbeats import BEAT, record_heartbeat
from jointsearch.study.storage.identity import IDENTITY
from jointsearch.study.storage.internals import is_stored
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.storage.proxy import StudyProxy, open_proxied
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study

Configure = Callable[..., StudyConfig]
Launch = Callable[..., subprocess.Popen[str]]
WaitFor = Callable[..., None]

STALE_BEATS = 8
"""As many seconds, a beat each, may a heart of worker_process.py be silent."""


@pytest.fixture
def port() -> int:
    """A free one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found: int = server.getsockname()[1]
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=(pytest.mark.slow, pytest.mark.alone))])
def study(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    port: int,
    configure: Configure,
    layout: ModelLayout,
    launch: Launch,
    wait_for: WaitFor,
) -> Iterator[StoredStudy]:
    """A study of ten trials, made through a proxy that serves a database of each kind."""
    url = f"sqlite:///{tmp_path}/studies.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    launch("proxy", url, str(port), log="proxy")
    wait_for(lambda: "serving at" in (tmp_path / "proxy").read_text())
    storage = open_storage(f"grpc://127.0.0.1:{port}", create=True)
    yield create_study(storage, configure(search={"trials": 10}), layout)
    storage.close()


@pytest.mark.slow
@pytest.mark.alone
def test_a_worker_that_is_killed_behind_the_proxy_is_missed(
    study: StoredStudy, port: int, launch: Launch, wait_for: WaitFor, gate: Any, tmp_path: Path
) -> None:
    url = f"grpc://127.0.0.1:{port}"
    victim = launch("work", url, study.name, "--gate", gate.folder, log="victim")
    # its heart beats, so it is not taken for lost although it takes longer than that
    wait_for(lambda: [t for t in study.records().trials if t.frozen.user_attrs.get(BEAT, 0) > STALE_BEATS])
    (running,) = study.records().running
    victim.send_signal(signal.SIGKILL)
    other = launch("work", url, study.name)
    assert other.wait() == 0, (tmp_path / "log").read_text() + (tmp_path / "proxy").read_text()
    records = study.records()
    assert len(records.complete) == 10
    assert records.running == records.failed == ()
    assert [trial.number for trial in records.trials if trial.state == TrialState.FAIL] == [running.number]
    again = [trial for trial in records.complete if RETRY_OF in trial.frozen.user_attrs]
    assert [(trial.digest, trial.origin.name) for trial in again] == [(running.digest, running.origin.name)]


def test_without_a_proxy_it_is_one_line(
    port: int, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setattr("jointsearch.study.storage.proxy.REACH_SECONDS", 0.5)
    assert command("study", "list", "--storage", f"grpc://127.0.0.1:{port}", status=2).stderr == (
        f"Error: a storage proxy must answer at grpc://127.0.0.1:{port}; "
        f"start one with `jointsearch storage proxy --port {port}`\n"
    )


@pytest.mark.parametrize(
    "url", ["grpc://host", "grpc://user:hunter2@host:1", "grpc://:13000", "grpc://h:1/x"]
)
def test_an_address_is_a_host_and_a_port(url: str) -> None:
    with pytest.raises(StorageError, match="must be grpc://host:port") as caught:
        open_storage(url)
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_grpc(name: str, *rest: Any) -> Any:
        if name == "grpc":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_grpc)
    with pytest.raises(UnsupportedError, match=r"pip install 'jointsearch\[grpc\]'"):
        open_proxied("grpc://127.0.0.1:1")


def test_a_proxy_of_a_proxy_is_refused(study: StoredStudy, port: int, command: Callable[..., Any]) -> None:
    said = command("storage", "proxy", "--storage", f"grpc://127.0.0.1:{port}", status=2).stderr
    assert "a proxy must serve a database, but got another proxy" in said


def test_a_trial_is_written_as_one_behind_the_proxy(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = study.optuna_study
    trial = own.ask()

    def apart(*_: Any, **__: Any) -> None:
        raise AssertionError("a call of its own")

    for name in ("set_trial_user_attr", "set_trial_param"):
        monkeypatch.setattr(StudyProxy, name, apart)
    choices = {"more": optuna.distributions.IntDistribution(0, 3)}
    for _ in range(2):  # the answer to the first call may have been lost
        writing.write(trial, {"a": [1], "b": 2}, {"more": 2}, choices)
    stored = own.get_trials()[trial.number]
    assert stored.params["more"] == 2
    assert (stored.user_attrs["a"], stored.user_attrs["b"]) == ([1], 2)
    own.tell(trial, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        writing.write(trial, {"a": 3})
    assert own.get_trials()[trial.number].user_attrs["a"] == [1]


def test_nothing_is_stored_under_a_study_that_was_made_again_behind_the_proxy(
    configure: Configure,
    layout: ModelLayout,
    url: str,
    port: int,
    launch: Launch,
    wait_for: WaitFor,
    tmp_path: Path,
) -> None:
    launch("proxy", url, str(port), log="proxy")
    wait_for(lambda: "serving at" in (tmp_path / "proxy").read_text())
    storage, database = open_storage(f"grpc://127.0.0.1:{port}"), open_storage(url)
    study = create_study(storage, configure(), layout).optuna_study
    trial = study.ask()
    optuna.delete_study(study_name="small", storage=database)
    again = create_study(database, configure(), layout).optuna_study
    identity = again.user_attrs[IDENTITY]
    for use in (
        lambda: study.user_attrs,
        lambda: study.get_trials(),
        lambda: study.ask(),
        lambda: study.set_user_attr("a", 1),
        lambda: study.tell(trial, [1.0, 1.0]),
        lambda: study.add_trial(create_trial(state=TrialState.WAITING)),
        lambda: trial.set_user_attr("a", 1),
        lambda: record_heartbeat(trial, 1),
        lambda: writing.fail_stale(study, 0),
        lambda: writing.delete(study),
    ):
        with pytest.raises(StudyGone):
            use()
    assert not is_stored(study)
    assert identity == again.user_attrs[IDENTITY]
    assert "a" not in again.user_attrs
    assert [t.state for t in again.get_trials()] == [TrialState.WAITING] * 4
    assert all("a" not in t.user_attrs and BEAT not in t.user_attrs for t in again.get_trials())
    storage.close()
    database.engine.dispose()
