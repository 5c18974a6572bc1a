from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from jointsearch.cli.study_progress import StudyProgress
from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.analysis.progress import Snapshot, trial_line
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


class FailsSecond:
    def __init__(self, layout: ModelLayout) -> None:
        self._runner = FakeRunner(layout)
        self._runs = 0

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self._runs += 1
        if self._runs == 2:
            raise TrialFailed("out of memory [at 3 GB]")
        return self._runner.run(plan, trial)


def run_with_progress(study: StoredStudy, layout: ModelLayout, *, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=200)
    with StudyProgress(study, study.config.search.trials, console) as progress:
        Worker(study, FailsSecond(layout), progress).run()
    return output.getvalue()


def test_elsewhere_every_trial_is_one_line(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 4})
    lines = run_with_progress(study, layout, terminal=False).splitlines()
    assert len(lines) == 4
    assert lines[1] == "trial 1 failed: out of memory [at 3 GB]"
    for line, number in zip((lines[0], lines[2], lines[3]), (0, 2, 3), strict=True):
        assert line.startswith(f"[{number + 1}/4] {trial_line(study.records().trials[number])}, ")
    assert "hypervolume -, " in lines[0]
    assert lines[3].endswith(" 0:00:00 left")


def test_what_was_finished_before_is_no_news(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 3})
    Worker(study, FakeRunner(layout)).run()
    assert run_with_progress(study, layout, terminal=False) == ""


def test_a_terminal_shows_a_live_table(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 4})
    output = run_with_progress(study, layout, terminal=True)
    assert "3 done, 0 running, 1 failed" in output
    assert "4/4" in output
    assert "trial 1 failed: out of memory [at 3 GB]" in output
    best = study.records().best
    assert best is not None
    assert trial_line(best) in output


def test_a_line_names_values_trial_and_label(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 5})
    Worker(study, FakeRunner(layout)).run()
    trials = study.records().trials
    # 16 bits, no adapters: 2 bytes a weight, two biases of 64, 640 of the rest; 0.5 for rank 0
    size = 2 * (6400 + 2 * (2 * 4096 + 2 * 6144)) + 2 * 2 * 64 + 640
    assert size == 95616
    assert trial_line(trials[2]) == "loss 2.3000, model_bytes 95.62 kB (trial 2, uniform 16-bit rank 0)"
    assert trial_line(trials[4]).endswith(" (trial 4)")


def test_snapshot(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 3})
    before = Snapshot.of(study.records(), 3, 5)
    assert (before.complete, before.running, before.failed, before.best) == (0, 0, 0, "-")
    assert (before.hypervolume, before.seconds_left) == (None, None)
    Worker(study, FailsSecond(layout)).run()
    records = study.records()
    after = Snapshot.of(records, 12, 5)
    assert (after.total, after.complete, after.running, after.failed) == (12, 2, 0, 1)
    assert records.best is not None
    assert after.best == trial_line(records.best)
    durations = [(t.frozen.datetime_complete, t.frozen.datetime_start) for t in records.complete]
    seconds = [(end - begin).total_seconds() for end, begin in durations if end and begin]
    assert after.seconds_left == pytest.approx((12 - 3) * sum(seconds) / 2, rel=1e-9)
    assert Snapshot.of(records, 2, 5).seconds_left == 0


def test_finals_take_as_many_trials_as_they_are_long(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 4})
    Worker(study, FakeRunner(layout)).run()
    plan = study.records().trials[0].plan
    request(study, plan, seed=0, steps=20)  # as long as four trials of 5 steps
    request(study, plan, seed=0, steps=80)  # sixteen
    request(study, plan, seed=7)
    records = study.records()
    each = sum(trial.seconds or 0 for trial in records.complete) / 4
    found = Snapshot.of(records, 4, 5)
    assert found.total == 4 + 3
    assert found.seconds_left == pytest.approx((4 + 16 + 1) * each, rel=1e-9)
