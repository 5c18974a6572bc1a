"""A small study whose numbers can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.plan.cost import plan_cost
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.search.attributes import FAILURE, PLAN, SEED, STEPS
from jointsearch.study.attributes import LABEL, MEASUREMENT, WORKER
from jointsearch.study.stored import StoredStudy

START = datetime(2026, 1, 1, 12)

Add = Callable[..., Plan]


@pytest.fixture
def add() -> Add:
    """Store a trial of a plan with that bits and rank in every module but those of ``changes``."""

    def added(
        study: StoredStudy,
        bits: int,
        rank: int,
        losses: dict[int, float],
        *,
        label: str = "",
        changes: dict[str, tuple[int, int]] | None = None,
        output: str = "",
        worker: str = "here:1",
        metric: str = "loss",
        steps: int | None = None,
        memory: int = 0,
    ) -> Plan:
        modules = {}
        for spec in study.layout.modules:
            chosen_bits, chosen_rank = (changes or {}).get(spec.name, (bits, rank))
            modules[spec.name] = ModuleChoice(
                bits=chosen_bits if spec.quantizable else 16, rank=chosen_rank if spec.adaptable else 0
            )
        plan = Plan(modules=modules)
        cost = plan_cost(study.layout, plan)
        for seed, loss in losses.items():
            measurement: dict[str, Any] = {
                "metrics": {"loss": loss, metric: loss},
                "model_bytes": cost.model_bytes,
                "trainable_share": cost.trainable_share,
                "peak_memory_bytes": 1000 + rank,
                "training_memory": memory,
                "serving_memory": memory // 2,
                "train_losses": [{"step": 1, "loss": loss + 1}],
                "validation_losses": [{"step": 5, "loss": loss}],
                "seconds": {"train": 2.0 + seed, "evaluate": 1.0},
                "examples": [{"input": "2 + 2 =", "output": output, "reference": "4"}],
            }
            number = len(study.optuna_study.get_trials(deepcopy=False))
            trial = create_trial(
                values=[loss, cost.model_bytes],
                user_attrs={
                    PLAN: plan.model_dump(mode="json"),
                    "digest": plan.digest,
                    LABEL: label,
                    SEED: seed,
                    WORKER: worker,
                    MEASUREMENT: measurement,
                    **({} if steps is None else {STEPS: steps}),
                },
            )
            study.optuna_study.add_trial(dated(trial, number))
        return plan

    return added


def dated(trial: FrozenTrial, number: int) -> FrozenTrial:
    """The trial as one that began so many minutes after ``START`` and took 30 s."""
    trial.datetime_start = START + timedelta(minutes=number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=30)
    return trial


@pytest.fixture
def small(create: Callable[..., StoredStudy], add: Add) -> StoredStudy:
    """Trials 0 and 1: uniform 4 bits with two seeds; 2: uniform 16 bits; 3 and 4 by search; 5 failed."""
    study = create(search_space={"enqueue": []})
    add(study, 4, 0, {0: 3.0, 1: 3.2}, label="uniform 4-bit rank 0")
    add(study, 16, 4, {0: 2.0}, label="uniform 16-bit rank 4", output="<b>5</b>")
    add(study, 4, 4, {0: 2.1}, changes={"embed": (16, 0)}, output="<script>alert(1)</script>")
    add(study, 16, 0, {0: 3.5}, worker="there:2")
    failed = create_trial(
        state=TrialState.FAIL, user_attrs={FAILURE: "the loss is not finite", WORKER: "here:1"}
    )
    study.optuna_study.add_trial(dated(failed, 5))
    return study


@pytest.fixture
def hostile(create: Callable[..., StoredStudy], storage: RDBStorage, add: Add) -> StoredStudy:
    """A study whose name and texts are tags: our study files refuse such names, a database does not."""
    made = create(name="made", search_space={"enqueue": []})
    study = optuna.create_study(
        study_name="<script>alert(1)</script>", storage=storage, directions=["minimize", "minimize"]
    )
    for key, value in made.optuna_study.user_attrs.items():
        study.set_user_attr(key, value)
    found = StoredStudy(study, made.config)
    link = "<a href='https://evil.example'>click</a>"
    add(found, 4, 0, {0: 2.0}, label=link, worker="<i>host</i>", output="<img src=x onerror=alert(1)>")
    return found
