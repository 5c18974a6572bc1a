"""Full runs of selected plans: in turn, interrupted, failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fixtures.full_runs import FakeTrainer, runs_of, states, work
from jointsearch.errors import OutputError
from jointsearch.plan.layout import ModelLayout
from jointsearch.runner import Trial
from jointsearch.study.full_runs import (
    RunState,
    claim,
    select_trial,
    withdraw_trial,
    write,
)
from jointsearch.study.plans import export_plan
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.full_runs import FullRunWorker
from jointsearch.testing import FakeRunner

Reopen = Callable[[], StoredStudy]


def test_selected_plans_are_trained_in_turn(study: StoredStudy, output: Path, layout: ModelLayout) -> None:
    select_trial(study.optuna_study, 3, "large")
    select_trial(study.optuna_study, 0)
    lines: list[str] = []
    train = FakeTrainer()
    FullRunWorker(study, train, output, tell=lines.append, idle_exit_seconds=0).run()
    assert train.trained == [
        (export_plan(study, 3), output / "small-trial-3"),
        (export_plan(study, 0), output / "small-trial-0"),
    ]
    for run in runs_of(study).values():
        plan = study.records().trials[run.trial].plan
        assert run.measurement == FakeRunner(layout).run(plan, Trial())
        assert (run.state, run.step, run.num_steps, run.failure) == (RunState.COMPLETE, 4, 4, "")
        assert [(point.step, point.loss) for point in run.validation_losses] == [(2, 2.5), (4, 2.25)]
        assert run.folder == str(output / f"small-trial-{run.trial}")
        assert run.began is not None
        assert run.ended is not None
        assert timedelta(0) <= run.ended - run.began < timedelta(seconds=30)
    assert [line.split(":")[0] for line in lines] == [
        f"full run of trial {trial} {event}" for trial in (3, 0) for event in ("started", "complete")
    ]
    # a new note changes no result, and nothing is trained again
    select_trial(study.optuna_study, 3, "for the server")
    work(study, train, output)
    assert len(train.trained) == 2
    assert runs_of(study)[3].selection.note == "for the server"


def test_a_limited_number_of_runs(study: StoredStudy, output: Path) -> None:
    for trial in (0, 1, 2):
        select_trial(study.optuna_study, trial)
    train = FakeTrainer()
    work(study, train, output, max_runs=2)
    assert train.trials == [0, 1]
    assert states(study) == {0: "complete", 1: "complete", 2: "waiting"}


def test_of_two_workers_one_has_the_run(study: StoredStudy, output: Path, reopen: Reopen) -> None:
    for trial in (0, 1, 2, 3):
        select_trial(study.optuna_study, trial)
    runs = runs_of(study)
    first = claim(study.optuna_study, runs[0], "host:1", output / "one")
    assert first is not None
    assert claim(study.optuna_study, runs[0], "host:2", output / "two") is None
    assert runs_of(study)[0] == first

    train = FakeTrainer(before_step=lambda step: time.sleep(0.01))
    barrier = threading.Barrier(2)

    def one(mine: StoredStudy) -> None:
        barrier.wait()
        work(mine, train, output)

    threads = [threading.Thread(target=one, args=[reopen()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(train.trials) == [1, 2, 3]
    assert runs_of(study)[0] == first  # that of a living worker


def test_an_interrupted_run_goes_on_in_its_folder(study: StoredStudy, output: Path, tmp_path: Path) -> None:
    select_trial(study.optuna_study, 1)
    train = FakeTrainer()
    worker = FullRunWorker(study, train, output)

    def stop(step: int) -> None:
        if step == 3:
            worker.stop()

    train.before_step = stop
    worker.run()
    (run,) = runs_of(study).values()
    assert (run.state, run.step, run.num_steps, run.measurement) == (RunState.INTERRUPTED, 2, 4, None)
    assert [point.step for point in run.validation_losses] == [2]
    train.before_step = lambda step: None
    work(study, train, tmp_path / "elsewhere")
    assert [folder for _, folder in train.trained] == [output / "small-trial-1"] * 2
    (after,) = runs_of(study).values()
    assert (after.state, after.began) == (RunState.COMPLETE, run.began)
    assert [point.step for point in after.validation_losses] == [2, 4]  # measured again, kept once


def test_an_interrupted_run_begins_anew_where_its_folder_is_not(study: StoredStudy, output: Path) -> None:
    select_trial(study.optuna_study, 1)
    run = claim(
        study.optuna_study,
        runs_of(study)[1],
        "elsewhere:7",
        Path("/nowhere/small-trial-1"),
    )
    assert run is not None
    write(study.optuna_study, run.model_copy(update={"state": RunState.INTERRUPTED}))
    train = FakeTrainer()
    work(study, train, output)
    assert [folder for _, folder in train.trained] == [output / "small-trial-1"]


def test_a_withdrawn_run_is_not_taken_up_again(study: StoredStudy, output: Path) -> None:
    select_trial(study.optuna_study, 1)
    run = claim(study.optuna_study, runs_of(study)[1], "host:1", output)
    assert run is not None
    write(study.optuna_study, run.model_copy(update={"state": RunState.INTERRUPTED}))
    withdraw_trial(study.optuna_study, 1)
    train = FakeTrainer()
    work(study, train, output)
    assert train.trained == []
    assert states(study) == {1: "interrupted"}


def test_a_failed_run_says_why_and_is_tried_again_when_selected_again(
    study: StoredStudy, output: Path, tmp_path: Path
) -> None:
    def fail(step: int) -> None:
        raise OutputError("the folder must be empty, but it is not")

    select_trial(study.optuna_study, 1)
    select_trial(study.optuna_study, 2)
    train = FakeTrainer(before_step=fail)
    work(study, train, output)
    work(study, train, output)
    assert train.trials == [1, 2]  # one does not keep the other from its turn
    runs = runs_of(study)
    assert [(run.state, run.failure) for run in runs.values()] == [
        ("failed", "the folder must be empty, but it is not")
    ] * 2
    select_trial(study.optuna_study, 1, "once more")
    assert states(study) == {2: "failed", 1: "waiting"}
    train.before_step = lambda step: None
    work(study, train, tmp_path / "elsewhere")
    assert train.trained[2:] == [(export_plan(study, 1), tmp_path / "elsewhere" / "small-trial-1")]
    run = runs_of(study)[1]
    assert (run.state, run.failure, run.selection.note) == ("complete", "", "once more")


def test_a_selected_trial_without_a_plan_fails(study: StoredStudy, output: Path) -> None:
    select_trial(study.optuna_study, 9)
    work(study, FakeTrainer(), output)
    assert runs_of(study)[9].failure == "the trial must be one of study 'small', which has 4, but got 9"


def test_a_bug_fails_the_run_and_ends_the_worker(study: StoredStudy, output: Path) -> None:
    def fail(step: int) -> None:
        raise ZeroDivisionError("by zero")

    select_trial(study.optuna_study, 1)
    with pytest.raises(ZeroDivisionError):
        work(study, FakeTrainer(before_step=fail), output)
    assert (
        runs_of(study)[1].state,
        runs_of(study)[1].failure,
    ) == ("failed", "by zero")


def test_a_second_ctrl_c_leaves_at_once(study: StoredStudy, output: Path) -> None:
    def interrupt(step: int) -> None:
        raise KeyboardInterrupt

    select_trial(study.optuna_study, 1)
    with pytest.raises(KeyboardInterrupt):
        work(study, FakeTrainer(before_step=interrupt), output)
    assert states(study) == {1: "interrupted"}
