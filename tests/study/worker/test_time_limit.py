"""The wall-clock limit of a trial: one that asks ends by itself, one that hangs ends its worker."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jointsearch.errors import TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.time_limit import HUNG
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


def test_a_trial_that_takes_too_long_fails(
    create: Create, layout: ModelLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr("jointsearch.study.worker.time_limit.time", clock)

    class SecondIsSlow:
        runs = 0

        def run(self, plan: Plan, trial: Trial) -> Measurement:
            self.runs += 1
            for step in range(5):
                if trial.should_stop():
                    raise TrialInterrupted(f"stopped at step {step} of 5")
                clock.now += 30 if self.runs == 2 else 1
            return FakeRunner(layout).run(plan, trial)

    study = create(calibration={"max_seconds": 100}, search={"trials": 4})
    worker = Worker(study, SecondIsSlow())
    worker.run()
    assert not worker.stopping
    records = study.records()
    assert [(trial.number, trial.failure) for trial in records.failed] == [
        (1, "took longer than calibration.max_seconds (100.0 s)")
    ]
    assert [trial.number for trial in records.complete] == [0, 2, 3]
    assert records.waiting == ()  # it would take as long again


def test_a_trial_that_hangs_ends_its_worker_and_another_goes_on(
    create: Create, url: str, launch: Callable[..., subprocess.Popen[str]], gate: Any, tmp_path: Path
) -> None:
    study = create(calibration={"max_seconds": 1}, search={"trials": 4})
    hanging = launch("work", url, study.name, "--gate", gate.folder, "--deaf")
    assert hanging.wait() == HUNG, (tmp_path / "log").read_text()
    (failed,) = study.records().failed
    assert failed.failure == "took longer than calibration.max_seconds (1.0 s)"
    assert study.records().running == ()
    assert "the trial hangs; this worker ends" in (tmp_path / "log").read_text()
    assert launch("work", url, study.name).wait() == 0
    records = study.records()
    assert (len(records.complete), len(records.failed)) == (3, 1)
