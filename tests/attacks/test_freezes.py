"""Workers that stand still for longer than others wait for their hearts, and go on."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from attacks.claims import Faults, faults
from attacks.workers import STALE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Make = Callable[..., Any]


def test_freezes(any_url: str, make: Make, fleet: Make, sized: Callable[[int, int], int]) -> None:
    """Of six workers three at a time, wherever they are: in a trial, in a transaction, with a lock."""
    chance = random.Random(3)
    wanted, frozen, missed, num_studies = sized(6, 30), 0, 0, 0
    started = time.monotonic()
    while frozen < wanted:
        num_studies += 1
        study = make(any_url, 60, name=f"small{num_studies}")
        workers = fleet(any_url, study.name, longest_seconds=0.5)
        workers.start(6)
        while frozen < wanted:
            time.sleep(chance.uniform(0.3, 0.8))
            workers.sweep()
            if len(workers.living) < 6:
                break
            still = chance.sample(workers.living, 3)
            for process in still:
                workers.signal(process, signal.SIGSTOP)
            time.sleep(STALE_SECONDS + 2.0)
            for process in still:
                workers.signal(process, signal.SIGCONT)
            frozen += len(still)
        workers.join()
        assert workers.statuses() == [0] * 6, [workers.log(process) for process in workers.left]
        assert faults(study) == Faults()
        missed += sum(trial.state == TrialState.FAIL for trial in study.records().trials)
    print(f"{frozen} freezes, {missed} trials taken for stale, {time.monotonic() - started:.0f} s")
