"""What must hold of a study after an attack: 0 lost, 0 doubled, 0 stuck, 0 forged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from attacks.workers import expected_loss
from jointsearch.plan.cost import plan_cost
from jointsearch.study.storage.identity import IDENTITY
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class Faults:
    """How many trials are wrong, and in which way."""

    lost: int = 0
    """Of those that the study file asks for."""
    surplus: int = 0
    """Beyond what it asks for."""
    doubled: int = 0
    """Measured again although the same plan and seed had a stored result."""
    stuck: int = 0
    """Running or waiting although nobody works any more."""
    failed: int = 0
    forged: int = 0
    """With another result than that of their own study, plan and seed."""


def faults(study: StoredStudy) -> Faults:
    """Of a study whose workers have all left by themselves."""
    records = study.records()
    identity = study.optuna_study.user_attrs[IDENTITY]
    wanted = study.config.search.trials
    complete = sum(trial.searched for trial in records.complete)
    own = Counter((trial.digest, trial.seed) for trial in records.complete if trial.copy_of is None)
    forged = 0
    for trial in records.complete:
        assert trial.seed is not None
        truth = [
            expected_loss(identity, trial.plan, trial.seed),
            float(plan_cost(study.layout, trial.plan).model_bytes),
        ]
        forged += trial.frozen.values != truth or trial.digest != trial.plan.digest
    return Faults(
        lost=max(0, wanted - complete),
        surplus=max(0, complete - wanted),
        doubled=sum(count - 1 for count in own.values()),
        stuck=len(records.running) + len(records.waiting),
        failed=len(records.failed),
        forged=forged,
    )
