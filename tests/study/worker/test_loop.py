"""The loop that workers of trials and of full runs share."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from jointsearch.study.control import Wanted, want
from jointsearch.study.storage import outages
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker import loop as loops
from jointsearch.study.worker.loop import Step, WorkLoop

Create = Callable[..., StoredStudy]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "POLL_SECONDS", 0.01)
    monkeypatch.setattr("jointsearch.study.control.POLL_SECONDS", 0.01)


@pytest.fixture
def study(create: Create) -> StoredStudy:
    return create()


def steps(*results: Step) -> Callable[[], Step]:
    return iter(results).__next__


@pytest.mark.parametrize(
    ("results", "options", "num_done"),
    [
        ([Step.DONE, Step.IDLE, Step.DONE, Step.OVER], {}, 2),
        ([Step.DONE, Step.DONE], {"max_done": 2}, 2),
        ([Step.IDLE], {"idle_exit_seconds": 0}, 0),
        ([Step.DONE, Step.DONE, Step.IDLE], {"idle_exit_seconds": 0}, 2),
    ],
)
def test_it_ends(study: StoredStudy, results: list[Step], options: dict[str, int], num_done: int) -> None:
    assert WorkLoop(study.optuna_study, **options).run(steps(*results)) == num_done  # type: ignore[arg-type]


def test_a_stop_ends_it_after_the_step_and_a_wait_at_once(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "POLL_SECONDS", 3600)
    loop = WorkLoop(study.optuna_study)
    timer = threading.Timer(0.1, loop.stop)
    timer.start()
    assert loop.run(steps(Step.DONE, Step.IDLE)) == 1
    assert loop.stopping


@pytest.mark.parametrize("wanted", [Wanted.STOP, Wanted.CANCEL])
def test_what_a_person_wants_ends_it(study: StoredStudy, wanted: Wanted) -> None:
    loop = WorkLoop(study.optuna_study)
    seen: list[bool] = []

    def step() -> Step:
        seen.append(loop.may_begin)
        if len(seen) == 3:
            want(study.optuna_study, wanted)
        return Step.IDLE

    with loop.obeying():
        loop.run(step)
    assert seen[:3] == [True] * 3
    assert loop.stopping is (wanted is Wanted.CANCEL)


def test_nothing_begins_while_the_study_is_paused(study: StoredStudy) -> None:
    want(study.optuna_study, Wanted.PAUSE)
    loop = WorkLoop(study.optuna_study)
    seen: list[bool] = []

    def step() -> Step:
        seen.append(loop.may_begin)
        if len(seen) == 3:
            want(study.optuna_study, Wanted.RUN)
        return Step.OVER if loop.may_begin else Step.IDLE

    with loop.obeying():
        loop.run(step)
    assert seen[:3] == [False] * 3
    assert seen[-1]


def test_a_database_that_is_away_is_waited_for_until_a_stop(
    study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(outages, "_last_outage", outages._last_outage)
    loop = WorkLoop(study.optuna_study)
    calls: list[int] = []

    def fail(times: int) -> str:
        calls.append(times)
        if len(calls) <= times:
            raise OperationalError("SELECT", None, Exception("the server is away"))
        return "there"

    assert loop.outlast(lambda: fail(2)) == "there"
    assert len(calls) == 3

    def fail_and_stop() -> str:
        loop.stop()
        raise OperationalError("SELECT", None, Exception("the server is away"))

    assert loop.outlast(fail_and_stop) is None
