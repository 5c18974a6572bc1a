"""A study that is deleted, and made again, under those who use it."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from jointsearch.cli import cli
from jointsearch.config.study import StudyConfig
from jointsearch.dashboard.live import LiveStudies
from jointsearch.errors import StorageError, StudyError, StudyGone
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.control import Wanted, want, watch
from jointsearch.study.full_runs import select_trial
from jointsearch.study.storage import writing
from jointsearch.study.storage.heartbeats import last_heartbeats, record_heartbeat
from jointsearch.study.storage.identity import IDENTITY
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, delete_study, open_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]
Reopen = Callable[[str], RDBStorage]

TABLES = ("trials", "trial_user_attributes", "trial_params", "trial_values", "trial_heartbeats")


@pytest.fixture
def opened() -> Iterator[Reopen]:
    """The storage at a URL as another process sees it."""
    found: list[RDBStorage] = []

    def again(url: str) -> RDBStorage:
        storage = open_storage(url)
        assert isinstance(storage, RDBStorage)
        found.append(storage)
        return storage

    yield again
    for storage in found:
        storage.engine.dispose()


@pytest.fixture
def study(any_url: str, configure: Configure, layout: ModelLayout) -> Iterator[StoredStudy]:
    storage = open_storage(any_url, create=True)
    yield create_study(storage, configure(), layout)
    storage.engine.dispose()


def make_again(url: str, study: StoredStudy, seed: int | None = None) -> None:
    """Delete the study as another process would, and make one of the same name."""
    storage = open_storage(url)
    config, layout = study.config, study.layout
    optuna.delete_study(study_name=study.name, storage=storage)
    if seed is not None:
        config = config.model_copy(
            update={"calibration": config.calibration.model_copy(update={"seed": seed})}
        )
    create_study(storage, config, layout)
    storage.engine.dispose()


def ask(study: optuna.Study) -> optuna.Trial:
    with experimental_optuna():
        return study.ask()


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))]
            for table in (*TABLES, "study_user_attributes")
        }
    engine.dispose()
    return found


def test_the_result_of_a_deleted_study_is_not_stored_under_the_new_one(
    any_url: str, study: StoredStudy
) -> None:
    after: list[dict[str, list[tuple[object, ...]]]] = []

    class Runner:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            make_again(any_url, study, seed=77)
            after.append(rows(any_url))
            return FakeRunner(study.layout).run(plan, trial)

    with pytest.raises(StudyGone, match=r"^the study 'small' was deleted while this process used it"):
        Worker(study, Runner()).run()
    assert rows(any_url) == after[0]
    storage = open_storage(any_url)
    again = open_study(storage, "small")
    assert {trial.state for trial in again.records().trials} == {TrialState.WAITING}
    assert again.config.calibration.seed == 77
    storage.engine.dispose()


def test_nothing_is_read_or_written_of_a_study_that_was_made_again(
    any_url: str, study: StoredStudy, opened: Reopen
) -> None:
    trial = ask(study.optuna_study)
    live = LiveStudies(opened(any_url))
    shown = live["small"]
    make_again(any_url, study)
    before = rows(any_url)
    plan = next(iter(study.space.baselines()))
    own = study.optuna_study
    for use in (
        lambda: study.records(),
        lambda: own.user_attrs,
        lambda: own.get_trials(),
        lambda: ask(own),
        lambda: own.tell(trial, state=TrialState.FAIL),
        lambda: own.set_user_attr("a", 1),
        lambda: own.add_trial(optuna.trial.create_trial(state=TrialState.WAITING)),
        lambda: trial.set_user_attr("a", 1),
        lambda: writing.write(trial, {"a": 1}, plan.params, None),
        lambda: writing.fail_stale(own, 0),
        lambda: record_heartbeat(trial, 0),
        lambda: last_heartbeats(own),
        lambda: want(own, Wanted.STOP),
        lambda: select_trial(own, 0),
        lambda: writing.delete(own),
    ):
        with pytest.raises(StudyGone):
            use()
    assert rows(any_url) == before
    assert live["small"] is not shown


def test_a_deleted_study_leaves_no_rows(url: str, create: Create, tmp_path: Path) -> None:
    study = create()
    trial = ask(study.optuna_study)
    record_heartbeat(trial, 0)
    other = open_storage(url)
    optuna.delete_study(study_name="small", storage=other)
    other.engine.dispose()
    with pytest.raises(StudyGone):
        trial.set_user_attr("measurement", 1)
    with pytest.raises(StudyGone):
        record_heartbeat(trial, 1)
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        assert {connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES} == {0}
    connection.close()


def test_a_study_without_identity_gets_one_that_stays(
    url: str, create: Create, opened: Reopen, tmp_path: Path
) -> None:
    """As one of version 0.1.0."""
    create()
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute("DELETE FROM study_user_attributes WHERE key = ?", [IDENTITY])
    connection.close()
    found = {open_study(opened(url), "small").optuna_study.user_attrs[IDENTITY] for _ in range(3)}
    assert len(found) == 1
    assert len(found.pop()) == 32
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute("DELETE FROM study_user_attributes WHERE key = ?", [IDENTITY])
    connection.close()
    read_only = opened(f"sqlite:///file:{tmp_path}/studies.db?mode=ro&uri=true")
    assert len(open_study(read_only, "small").records().trials) == 4


def test_delete_names_who_is_at_work_and_refuses(url: str, create: Create, opened: Reopen) -> None:
    study = create()
    assert study.optuna_study.user_attrs[IDENTITY]
    trial = ask(study.optuna_study)
    trial.set_user_attr("worker", "node:7")
    runner = CliRunner()
    arguments = ["study", "delete", "small", "--yes", "--storage", url]
    refused = runner.invoke(cli, arguments)
    assert isinstance(refused.exception, StudyError)
    assert "node:7 with trial 0" in str(refused.exception)
    assert "--force" in str(refused.exception)
    record_heartbeat(trial, 0)
    with pytest.raises(StudyError, match="node:7 with trial 0"):
        delete_study(opened(url), "small")
    forced = runner.invoke(cli, [*arguments, "--force"])
    assert forced.exit_code == 0
    assert "still at work: node:7 with trial 0" in forced.stderr


def test_a_worker_that_went_long_ago_does_not_keep_a_study(
    url: str, create: Create, opened: Reopen, tmp_path: Path
) -> None:
    study = create()
    record_heartbeat(ask(study.optuna_study), 0)
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-61 seconds')")
    connection.close()
    delete_study(opened(url), "small")


def test_an_unknown_wanted_state_is_ignored_and_a_later_stop_is_seen(
    create: Create, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jointsearch.study.control.POLL_SECONDS", 0.01)
    study = create().optuna_study
    want(study, Wanted.PAUSE)
    told: list[Wanted] = []
    stopped = threading.Event()

    def tell(state: Wanted) -> None:
        told.append(state)
        if state is Wanted.STOP:
            stopped.set()

    with caplog.at_level(logging.WARNING), watch(study, tell):
        for unknown in ("drain", ["list"], {"a": 1}):
            study.set_user_attr("wanted", unknown)
            while json.dumps(unknown)[:5] not in caplog.text.replace("'", '"'):
                assert stopped.wait(0.01) is False
        want(study, Wanted.STOP)
        assert stopped.wait(60)
    assert told == [Wanted.PAUSE, Wanted.STOP]


def test_a_storage_that_no_other_process_sees_is_refused(configure: Configure, layout: ModelLayout) -> None:
    storage = InMemoryStorage()
    with pytest.raises(
        StorageError, match=r"^a study must be in a database .* but got InMemoryStorage; give"
    ):
        create_study(storage, configure(), layout)
    assert storage.get_all_studies() == []
