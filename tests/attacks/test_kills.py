"""Workers that are killed at whatever they do, and others that come in their place."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from attacks.beside import beside
from attacks.claims import Faults, faults
from jointsearch.study.storage.opening import open_storage

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Make = Callable[..., Any]


def test_kills(any_url: str, make: Make, fleet: Make, sized: Callable[[int, int], int]) -> None:
    """Studies of 120 trials with four workers each, until so many workers have been killed.

    Studies of others stand beside them.
    """
    chance = random.Random(7)
    wanted, killed, in_trial, num_studies = sized(30, 150), 0, 0, 0
    started = time.monotonic()
    storage = open_storage(any_url, create=True)
    with beside(storage, make, any_url):
        while killed < wanted:
            num_studies += 1
            study = make(any_url, 120, name=f"small{num_studies}")
            workers = fleet(any_url, study.name, longest_seconds=0.1)
            workers.start(4)
            while killed < wanted:
                time.sleep(chance.uniform(0.05, 0.45))
                workers.sweep()
                if not workers.living:
                    break
                if workers.kill(chance.choice(workers.living)):
                    killed += 1
                    workers.start()
            workers.join()
            assert set(workers.statuses()) == {0}, [workers.log(process) for process in workers.left]
            assert faults(study) == Faults()
            in_trial += sum(trial.state == TrialState.FAIL for trial in study.records().trials)
    storage.engine.dispose()
    assert in_trial > 0
    seconds = time.monotonic() - started
    print(f"{killed} kills, {in_trial} of them with a trial, {num_studies} studies, {seconds:.0f} s")
