"""Connections that drop after the commit, workers that stood still, and locks that others hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import InternalError, OperationalError

from jointsearch.errors import TrialFailed, TrialPruned
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage import database, locks, writing
from jointsearch.study.storage.heartbeats import last_heartbeats, record_heartbeat
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.storage.outages import Busy, is_outage, outlast
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker import queue as queues
from jointsearch.study.worker.queue import TrialQueue
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


def dropped() -> StorageInternalError:
    error = StorageInternalError("commit")
    error.__cause__ = OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
    return error


@pytest.fixture
def drop_after_commit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first transaction of ``write`` is committed, and its answer lost; how many there were."""
    real: Any = writing._create_scoped_session
    calls: list[int] = []

    @contextmanager
    def session(*arguments: Any) -> Iterator[Any]:
        with real(*arguments) as opened:
            yield opened
        calls.append(1)
        if len(calls) == 1:
            raise dropped()

    monkeypatch.setattr(writing, "_create_scoped_session", session)
    monkeypatch.setattr("jointsearch.study.storage.outages.FIRST_WAIT_SECONDS", 0.01)
    return calls


def test_a_plan_whose_answer_was_lost_is_the_one_that_is_stored(
    create: Create, layout: ModelLayout, drop_after_commit: list[int]
) -> None:
    study = create(search={"trials": 30})
    Worker(study, FakeRunner(layout), max_trials=4).run()  # the baselines, which have their parameters
    drop_after_commit.clear()
    queue = TrialQueue(study, num_trials=30)
    trial = queue.take(study.records())
    assert trial is not None
    plan = outlast(lambda: queue.plan_of(trial))
    assert plan is not None
    stored = study.optuna_study.get_trials()[trial.number]
    assert study.space.plan(stored.params) == plan
    assert stored.user_attrs["plan"] == plan.model_dump(mode="json")


def test_parameters_are_stored_once(create: Create, drop_after_commit: list[int]) -> None:
    study = create()
    with experimental_optuna():
        trial = study.optuna_study.ask()
    choices = {"more": optuna.distributions.IntDistribution(0, 3)}
    outlast(lambda: writing.write(trial, {"a": 1}, {"more": 2}, choices))
    assert len(drop_after_commit) == 2
    assert study.optuna_study.get_trials()[0].params["more"] == 2


def test_a_late_result_is_stored_once(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 3})
    queue = TrialQueue(study, num_trials=3)
    trial = queue.take(study.records())
    assert trial is not None
    plan = queue.plan_of(trial)
    queue.claim(trial, plan)
    writing.fail_stale(study.optuna_study, trial.number)
    measurement = FakeRunner(layout).run(plan, Trial(0))
    for _ in range(2):
        queue.complete(trial, measurement)
    assert len(study.records().complete) == 1


@pytest.mark.parametrize("moment", ["plan_of", "claim", "complete", "prune", "fail"])
def test_a_worker_that_stood_still_for_too_long_goes_on(
    create: Create, layout: ModelLayout, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Others have taken its first trial for stale, at whatever it was doing."""
    study = create(search={"trials": 6})
    real = getattr(queues.TrialQueue, moment)

    def stand_still(queue: TrialQueue, trial: optuna.Trial, *arguments: Any, **options: Any) -> Any:
        if trial.number == 0:
            writing.fail_stale(study.optuna_study, 0)
        return real(queue, trial, *arguments, **options)

    monkeypatch.setattr(queues.TrialQueue, moment, stand_still)

    class Runner:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            if trial.number == 0 and moment in ("prune", "fail"):
                raise (TrialPruned if moment == "prune" else TrialFailed)("as asked")
            return FakeRunner(layout).run(plan, trial)

    Worker(study, Runner()).run()
    records = study.records()
    assert len(records.complete) == 6
    assert not records.running
    assert not records.failed
    assert records.trials[0].state == TrialState.FAIL


def test_a_lock_that_another_process_holds_is_an_outage(
    create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.01)
    study = create()
    with FileLock(f"{tmp_path}/studies.db.lock"):
        with (
            pytest.raises(Busy, match=r"another process holds .*studies.db.lock") as caught,
            study_lock(study.optuna_study),
        ):
            raise AssertionError("held twice")
        assert is_outage(caught.value)
        worker = Worker(create(name="other", search={"trials": 1}), FakeRunner(study.layout))
        ended = threading.Thread(target=worker.run, daemon=True)
        ended.start()
        worker.stop()
        ended.join(60)
        assert not ended.is_alive()
    with study_lock(study.optuna_study):
        pass


def test_postgresqls_lock_is_given_up(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    storage = open_storage(postgres_url, create=True)
    study = optuna.create_study(study_name="s", storage=storage)
    with study_lock(study), pytest.raises(Busy), study_lock(study):
        raise AssertionError("held twice")
    with study_lock(study):
        pass
    storage.engine.dispose()


def test_a_list_of_trials_that_a_lock_keeps_is_an_outage(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna asks again in the same transaction, which PostgreSQL refuses with another error."""
    monkeypatch.setattr(database, "LOCK_WAIT_SECONDS", 0.2)
    storage = open_storage(postgres_url, create=True)
    study = optuna.create_study(study_name="s", storage=storage)
    with experimental_optuna():
        study.ask()
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        connection.execute(text("LOCK TABLE trials IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StorageInternalError) as caught:
            study.get_trials(deepcopy=False)
    engine.dispose()
    assert isinstance(caught.value.__cause__, InternalError)
    assert is_outage(caught.value)
    assert len(outlast(lambda: study.get_trials(deepcopy=False)) or ()) == 1
    storage.engine.dispose()


def test_heartbeats_are_compared_in_one_time_zone(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(postgres_url, create=True)
    study = optuna.create_study(study_name="s", storage=storage)
    for zone in ("Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("PGTZ", zone)
        for create in (True, False):
            there = open_storage(postgres_url, create=create)
            with experimental_optuna():
                trial = optuna.load_study(study_name="s", storage=there).ask()
            for count in range(2):  # the first is the database's default, the others are written
                record_heartbeat(trial, count)
            there.engine.dispose()
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        query = "SELECT heartbeat, now() AT TIME ZONE 'UTC' FROM trial_heartbeats"
        ages = [now - beat for beat, now in connection.execute(text(query))]
    engine.dispose()
    assert len(ages) == 4
    assert all(timedelta(0) <= age < timedelta(minutes=10) for age in ages)
    found = [beat.age_seconds for beat in last_heartbeats(study).values()]
    assert all(age is not None and 0 <= age < 600 for age in found)
    storage.engine.dispose()
