"""Selections, and full runs of them with a trainer that answers at once."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from jointsearch.config.yaml_file import read_study
from jointsearch.errors import OutputError, RunInterrupted, StudyError
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile
from jointsearch.runner import Trial
from jointsearch.study import control
from jointsearch.study.control import Wanted, want
from jointsearch.study.full_runs import (
    FullRun,
    RunState,
    claim,
    full_runs,
    select_trial,
    selected,
    selections,
    withdraw_trial,
    write,
)
from jointsearch.study.plans import chosen_trial, export_plan
from jointsearch.study.storage import heartbeats, outages
from jointsearch.study.storage.heartbeats import STALE_SECONDS
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, open_study
from jointsearch.study.worker import full_runs as full_run_worker
from jointsearch.study.worker import loop
from jointsearch.study.worker.full_runs import FullRunWorker
from jointsearch.study.worker.stale import StaleRuns
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Reopen = Callable[[], StoredStudy]

FIXTURES = Path(__file__).parents[2] / "fixtures"

NUM_STEPS = 4


def runs_of(study: StoredStudy) -> dict[int, FullRun]:
    return full_runs(study.optuna_study.user_attrs)


@dataclass
class FakeTrainer:
    """Measures as the fake runner does, and remembers what it was given."""

    before_step: Callable[[int], None] = lambda step: None
    stops_before: int = 0
    """The step that does not begin before the worker is told to stop."""
    trained: list[tuple[PlanFile, Path]] = field(default_factory=list)

    def __call__(
        self,
        plan: PlanFile,
        folder: Path,
        *,
        at_step: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Measurement:
        self.trained.append((plan, folder))
        folder.mkdir(parents=True, exist_ok=True)
        for step in range(1, NUM_STEPS + 1):
            self.before_step(step)
            while step == self.stops_before and not should_stop():
                time.sleep(0.005)
            if should_stop():
                raise RunInterrupted(f"stopped before step {step}")
            at_step(step, NUM_STEPS)
        return FakeRunner(plan.layout).run(plan.plan, Trial())

    @property
    def trials(self) -> list[int]:
        return [plan.origin.trial for plan, _ in self.trained if plan.origin]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, layout: ModelLayout) -> Path:
    """A database with the study 'small', whose four trials are complete."""
    path = tmp_path_factory.mktemp("storage") / "studies.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    config = read_study(FIXTURES / "study.yaml")
    config = config.model_copy(update={"search": config.search.model_copy(update={"trials": 4})})
    Worker(create_study(storage, config, layout), FakeRunner(layout)).run()
    storage.engine.dispose()
    return path


@pytest.fixture
def reopen(finished: Path, url: str, tmp_path: Path) -> Iterator[Callable[[], StoredStudy]]:
    """Opens a copy of the study, as another process would."""
    shutil.copy(finished, tmp_path / "studies.db")
    opened = []

    def again() -> StoredStudy:
        opened.append(open_storage(url))
        return open_study(opened[-1], "small")

    yield again
    for storage in opened:
        storage.engine.dispose()


@pytest.fixture
def study(reopen: Reopen) -> StoredStudy:
    return reopen()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def work(study: StoredStudy, train: FakeTrainer, output: Path, *, max_runs: int | None = None) -> None:
    """A worker that leaves as soon as there is nothing to do."""
    FullRunWorker(study, train, output, max_runs=max_runs, idle_exit_seconds=0).run()


def states(study: StoredStudy) -> dict[int, str]:
    return {trial: run.state.value for trial, run in runs_of(study).items()}


def test_selections_have_notes_and_times(study: StoredStudy, reopen: Reopen) -> None:
    before = datetime.now(UTC)
    select_trial(study.optuna_study, 3, "the best")
    select_trial(study.optuna_study, 1)
    assert selected(study.optuna_study) == 1
    found = reopen()
    assert selected(found.optuna_study) == 1
    chosen = selections(found.optuna_study.user_attrs)
    assert [(selection.trial, selection.note) for selection in chosen.values()] == [
        (3, "the best"),
        (1, ""),
    ]
    for selection in chosen.values():
        assert selection.at is not None
        assert before <= selection.at <= datetime.now(UTC)
    select_trial(study.optuna_study, 3, "the best of four")
    assert [(run.trial, run.selection.note, run.state) for run in runs_of(found).values()] == [
        (1, "", "waiting"),
        (3, "the best of four", "waiting"),
    ]


def test_a_selection_is_withdrawn(study: StoredStudy, output: Path) -> None:
    for trial in (0, 1, 2):
        select_trial(study.optuna_study, trial)
    withdraw_trial(study.optuna_study, 0)
    assert selected(study.optuna_study) == 2
    withdraw_trial(study.optuna_study, 2)
    assert selected(study.optuna_study) == chosen_trial(study) == 1
    with pytest.raises(StudyError, match=r"must be a selected one \(\[1\]\), but got 2"):
        withdraw_trial(study.optuna_study, 2)
    train = FakeTrainer()
    work(study, train, output)
    assert train.trials == [1]
    withdraw_trial(study.optuna_study, 1)
    assert selected(study.optuna_study) is None
    assert states(study) == {1: "complete"}


def test_a_selection_of_an_older_study_is_trained(reopen: Reopen, output: Path) -> None:
    # a bare number, as it was before there were notes
    reopen().optuna_study.set_user_attr("selection", 2)
    study = reopen()
    (waiting,) = runs_of(study).values()
    assert (waiting.trial, waiting.selection.note, waiting.selection.at) == (2, "", None)
    train = FakeTrainer()
    work(study, train, output)
    assert train.trials == [selected(study.optuna_study)] == [2]
    assert states(study) == {2: "complete"}
    withdraw_trial(study.optuna_study, 2)
    assert selected(study.optuna_study) is None


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
    train.before_step = lambda step: None
    work(study, train, tmp_path / "elsewhere")
    assert [folder for _, folder in train.trained] == [output / "small-trial-1"] * 2
    (after,) = runs_of(study).values()
    assert (after.state, after.began) == (RunState.COMPLETE, run.began)


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
