"""What the attacks count can be seen to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.trial import TrialState, create_trial

from attacks.claims import Faults, faults
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., Any]


def test_every_fault_is_seen(create: Create) -> None:
    study = create(search={"trials": 6})
    assert faults(study) == Faults(lost=6, stuck=4)
    Worker(study, FakeRunner(study.layout), max_trials=5).run()
    assert faults(study) == Faults(lost=1, forged=5)
    first = study.optuna_study.get_trials()[0]
    for _ in range(2):
        study.optuna_study.add_trial(first)
    assert faults(study) == Faults(surplus=1, doubled=2, forged=7)
    study.optuna_study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"failure": "x"}))
    assert faults(study).failed == 1
