"""The queue as a worker uses it, also where another worker has taken its trial for stale."""

from __future__ import annotations

import threading
from collections.abc import Callable

import optuna
import pytest

from jointsearch.errors import TrialFailed
from jointsearch.plan.layout import ModelLayout
from jointsearch.runner import Trial
from jointsearch.search.attributes import FAILURE
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.queue import request
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.locks import try_study_lock
from jointsearch.study.storage.writing import fail_stale
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.queue import TrialQueue
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


@pytest.fixture
def study(create: Create) -> StoredStudy:
    return create(search={"trials": 3})


@pytest.fixture
def queue(study: StoredStudy) -> TrialQueue:
    return TrialQueue(study, num_trials=3)


def take(study: StoredStudy, queue: TrialQueue) -> optuna.Trial:
    trial = queue.take(study.records())
    assert trial is not None
    queue.claim(trial, queue.plan_of(trial))
    return trial


def states(study: StoredStudy) -> list[str]:
    return [trial.state.name for trial in study.records().trials]


def test_of_two_trials_with_one_plan_the_second_finds_the_first_by_its_seed(create: Create) -> None:
    study = create(calibration={"seed": 17})
    queue = TrialQueue(study, num_trials=10)
    first = take(study, queue)
    with experimental_optuna():
        second = study.optuna_study.ask()
    claim = queue.claim(second, queue.plan_of(first))
    assert claim.twin is not None
    assert (claim.seed, claim.twin.number) == (17, first.number)
    assert [(trial.seed, trial.copy_of) for trial in study.records().running] == [(17, None), (17, 0)]


def test_a_trial_that_ended_has_its_measurement_and_no_second_end(
    study: StoredStudy, queue: TrialQueue, layout: ModelLayout
) -> None:
    trial = take(study, queue)
    measurement = FakeRunner(layout).run(queue.plan_of(trial), Trial())
    for _ in range(2):  # the answer to the first call may have been lost
        queue.complete(trial, measurement)
    queue.prune(trial)
    queue.fail(trial, "too late", again=True)
    assert states(study) == ["COMPLETE", "WAITING", "WAITING", "WAITING"]
    (complete,) = study.records().complete
    assert complete.measurement == measurement
    assert complete.failure == ""


def test_an_interrupted_trial_is_in_the_queue_again_once(study: StoredStudy, queue: TrialQueue) -> None:
    trial = take(study, queue)
    for _ in range(2):
        queue.fail(trial, "stopped", again=True)
    assert states(study) == ["FAIL", "WAITING", "WAITING", "WAITING", "WAITING"]
    before, *_, after = study.records().trials
    assert before.failure == "stopped"
    assert (after.frozen.user_attrs[RETRY_OF], after.plan, after.origin, after.seed) == (
        0,
        before.plan,
        before.origin,
        before.seed,
    )


def test_the_late_result_of_a_stale_trial_stands_beside_it(
    study: StoredStudy, queue: TrialQueue, layout: ModelLayout
) -> None:
    trial = take(study, queue)
    measurement = FakeRunner(layout).run(queue.plan_of(trial), Trial())
    fail_stale(study.optuna_study, trial.number)
    queue.complete(trial, measurement)
    queue.complete(trial, measurement)  # the answer to the first call was lost
    queue.recover()  # its plan is known: nobody measures it again
    assert states(study) == ["FAIL", "WAITING", "WAITING", "WAITING", "COMPLETE"]
    late = study.records().trials[-1]
    assert (late.frozen.user_attrs[RETRY_OF], late.measurement) == (0, measurement)
    assert study.records().failed == ()


def test_a_late_result_goes_to_the_trial_that_waits_in_its_place(
    study: StoredStudy, queue: TrialQueue, layout: ModelLayout
) -> None:
    trial = take(study, queue)
    measurement = FakeRunner(layout).run(queue.plan_of(trial), Trial())
    for number in (0, 4):  # what came in its place went stale as well
        fail_stale(study.optuna_study, number)
        queue.recover()
    assert states(study) == ["FAIL", "WAITING", "WAITING", "WAITING", "FAIL", "WAITING"]
    for _ in range(2):
        queue.complete(trial, measurement)
    assert states(study) == ["FAIL", "WAITING", "WAITING", "WAITING", "FAIL", "COMPLETE"]
    (complete,) = study.records().complete
    assert (complete.measurement, complete.seed, complete.copy_of) == (measurement, 0, None)
    assert complete.frozen.values == [measurement.metrics["loss"], measurement.model_bytes]


def test_a_late_result_is_not_stored_beside_a_trial_that_measures_the_same(
    study: StoredStudy, layout: ModelLayout
) -> None:
    queue = TrialQueue(study, num_trials=10)
    trial = take(study, queue)
    measurement = FakeRunner(layout).run(queue.plan_of(trial), Trial())
    fail_stale(study.optuna_study, trial.number)
    queue.recover()
    again = [take(study, queue) for _ in range(4)][-1]
    assert (again.number, queue.plan_of(again)) == (4, queue.plan_of(trial))
    queue.complete(trial, measurement)
    assert states(study) == ["FAIL", "RUNNING", "RUNNING", "RUNNING", "RUNNING"]
    queue.complete(again, measurement)
    assert len(study.records().complete) == 1


def test_a_late_result_is_not_stored_beside_the_same_plan_of_another_trial(
    study: StoredStudy, layout: ModelLayout
) -> None:
    queue = TrialQueue(study, num_trials=10)
    trial = take(study, queue)
    plan = queue.plan_of(trial)
    measurement = FakeRunner(layout).run(plan, Trial())
    fail_stale(study.optuna_study, trial.number)
    request(study, plan)  # comes between, and is taken first
    other = queue.take(study.records())
    assert other is not None
    assert queue.claim(other, queue.plan_of(other)).twin is None
    queue.recover()
    queue.complete(trial, measurement)
    assert study.records().complete == ()
    assert study.records().heir(trial.number).state.name == "WAITING"
    queue.complete(other, measurement)
    again = [take(study, queue) for _ in range(4)][-1]
    assert study.records().trials[again.number].copy_of == other.number


def test_who_looked_long_ago_takes_no_trial_too_many(study: StoredStudy) -> None:
    queue = TrialQueue(study, num_trials=40)
    long_ago = study.records()
    taken = [queue.take(long_ago) for _ in range(42)]
    assert [trial is not None for trial in taken] == [True] * 40 + [False] * 2


def test_what_is_decided_of_a_stale_trial_comes_too_late(study: StoredStudy, queue: TrialQueue) -> None:
    trial = take(study, queue)
    fail_stale(study.optuna_study, trial.number)
    queue.prune(trial)
    queue.fail(trial, "out of memory")
    assert FAILURE not in study.records().trials[0].frozen.user_attrs
    assert study.records().stale == study.records().trials[:1]
    queue.recover()
    assert states(study) == ["FAIL", "WAITING", "WAITING", "WAITING", "WAITING"]


def test_a_trial_that_goes_stale_while_its_result_is_written_is_late_as_well(
    study: StoredStudy, queue: TrialQueue, layout: ModelLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = take(study, queue)
    measurement = FakeRunner(layout).run(queue.plan_of(trial), Trial())
    tell = optuna.Study.tell

    def tell_late(self: optuna.Study, *arguments: object, **options: object) -> object:
        fail_stale(self, trial.number)
        return tell(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(optuna.Study, "tell", tell_late)
    queue.complete(trial, measurement)
    assert states(study) == ["FAIL", "WAITING", "WAITING", "WAITING", "COMPLETE"]
    assert study.records().trials[-1].measurement == measurement


def test_a_result_that_is_no_number_is_no_result(
    study: StoredStudy, queue: TrialQueue, layout: ModelLayout
) -> None:
    trial = take(study, queue)
    measurement = FakeRunner(layout).run(queue.plan_of(trial), Trial())
    with pytest.raises(TrialFailed, match="diverged: loss is nan"):
        queue.complete(trial, measurement.model_copy(update={"metrics": {"loss": float("nan")}}))
    assert states(study)[0] == "RUNNING"


def test_two_workers_share_what_is_there(create: Create) -> None:
    study = create(search={"trials": 2})
    queues = [TrialQueue(study, num_trials=2) for _ in range(2)]
    taken = [queue.take(study.records()) for queue in (*queues, *queues)]
    assert [trial and trial.number for trial in taken] == [0, 1, None, None]


def test_of_two_workers_that_saw_one_trial_left_one_takes_it(create: Create) -> None:
    study = create(search={"trials": 1})
    seen = study.records()  # by both, before either has asked
    first, second = (TrialQueue(study, num_trials=1).take(seen) for _ in range(2))
    assert first is not None
    assert second is None
    assert states(study).count("RUNNING") == 1


def test_who_listens_does_not_hold_others_up(create: Create, url: str, layout: ModelLayout) -> None:
    """While the listener is told of a claim another thread can have the lock of the study."""
    study = create(search={"trials": 2})
    free: list[bool] = []

    def listen(records: StudyRecords) -> None:
        def look() -> None:
            with try_study_lock(study.optuna_study, "") as mine:
                free.append(mine)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    Worker(study, FakeRunner(layout), listen).run()
    assert len(free) >= 4
    assert set(free) == {True}
