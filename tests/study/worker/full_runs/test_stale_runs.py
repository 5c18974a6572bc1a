"""Full runs whose worker is gone, whose database is away, or which are told to stop."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from fixtures.full_runs import FakeTrainer, runs_of, states, work
from jointsearch.errors import StudyError
from jointsearch.study import control
from jointsearch.study.control import Wanted, want
from jointsearch.study.full_runs import (
    FullRun,
    RunState,
    claim,
    select_trial,
    write,
)
from jointsearch.study.storage import heartbeats, outages
from jointsearch.study.storage.heartbeats import STALE_SECONDS
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker import full_runs as full_run_worker
from jointsearch.study.worker import loop
from jointsearch.study.worker.full_runs import FullRunWorker
from jointsearch.study.worker.stale import StaleRuns


def test_a_run_is_stale_when_its_heart_is_silent(study: StoredStudy, output: Path) -> None:
    now = [0.0]
    stale = StaleRuns(clock=lambda: now[0])
    for trial in (1, 2):
        select_trial(study.optuna_study, trial)
        assert claim(study.optuna_study, runs_of(study)[trial], "host:1", output)
    assert stale.among(runs_of(study)) == set()
    now[0] += STALE_SECONDS / 2
    living = runs_of(study)[2].model_copy(update={"heartbeat": datetime.now(UTC)})
    assert write(study.optuna_study, living)
    assert stale.among(runs_of(study)) == set()
    now[0] += STALE_SECONDS / 2 + 1
    assert stale.among(runs_of(study)) == {1}


def test_the_run_of_a_dead_worker_comes_back(
    study: StoredStudy, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select_trial(study.optuna_study, 1)
    (output / "begun").mkdir(parents=True)
    dead = claim(study.optuna_study, runs_of(study)[1], "host:1", output / "begun")
    assert dead is not None
    train = FakeTrainer()
    work(study, train, output)
    assert train.trained == []  # it could be living
    monkeypatch.setattr(heartbeats, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.05)
    FullRunWorker(study, train, output, max_runs=1).run()
    assert [folder for _, folder in train.trained] == [output / "begun"]
    assert states(study) == {1: "complete"}
    assert not write(study.optuna_study, dead)  # too late
    assert states(study) == {1: "complete"}


def test_a_living_worker_beats_and_leaves_what_was_taken_from_it(
    study: StoredStudy, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 0.02)
    select_trial(study.optuna_study, 1)
    seen: list[FullRun] = []
    other: list[FullRun | None] = []

    def look(step: int) -> None:
        if step == 3:
            while not seen or seen[-1].step < 2:
                seen.append(runs_of(study)[1])
            stored = runs_of(study)[1]
            while not other or other[-1] is None:  # a heartbeat may come between
                other.append(claim(study.optuna_study, runs_of(study)[1], "host:1", output))
            assert stored.state == RunState.RUNNING

    train = FakeTrainer(before_step=look, stops_before=3)
    work(study, train, output, max_runs=1)
    assert len({run.heartbeat for run in seen}) > 1
    assert (seen[-1].step, seen[-1].num_steps) == (2, 4)
    assert runs_of(study)[1] == other[-1]


def test_a_result_waits_for_the_database(
    study: StoredStudy, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(outages, "_last_outage", outages._last_outage)
    refused: list[FullRun] = []

    def refuse_twice(study_: object, run: FullRun) -> bool:
        if len(refused) < 2:
            refused.append(run)
            raise OperationalError("UPDATE", None, Exception("the server is away"))
        return write(study.optuna_study, run)

    monkeypatch.setattr(full_run_worker, "write", refuse_twice)
    select_trial(study.optuna_study, 1)
    work(study, FakeTrainer(), output)
    assert len(refused) == 2
    assert states(study) == {1: "complete"}


@pytest.mark.parametrize(
    ("wanted", "state"),
    [(Wanted.PAUSE, "complete"), (Wanted.STOP, "complete"), (Wanted.CANCEL, "interrupted")],
)
def test_a_worker_obeys_what_is_wanted(
    study: StoredStudy, output: Path, wanted: Wanted, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0.02)
    look = control.wanted
    seen: list[Wanted] = []

    def remember(study: optuna.Study, *known: Wanted) -> Wanted:
        seen.append(look(study, *known))
        return seen[-1]

    monkeypatch.setattr(control, "wanted", remember)

    def say(step: int) -> None:
        if step == 2:
            want(study.optuna_study, wanted)
            while seen.count(wanted) < 2:  # what it has seen before has reached it
                time.sleep(0.005)

    select_trial(study.optuna_study, 1)
    select_trial(study.optuna_study, 2)
    work(study, FakeTrainer(before_step=say), output)
    assert states(study) == {1: state, 2: "waiting"}


def test_a_stopped_study_is_not_worked_on(study: StoredStudy, output: Path) -> None:
    select_trial(study.optuna_study, 1)
    want(study.optuna_study, Wanted.STOP)
    with pytest.raises(StudyError, match="those of 'small' are to stop; `jointsearch study resume small`"):
        work(study, FakeTrainer(), output)
    assert states(study) == {1: "waiting"}
