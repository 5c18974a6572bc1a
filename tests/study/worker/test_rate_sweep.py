"""``learning_rate: auto``: one sweep for each kind of adapters, before the first plan that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fixtures.rates import RatesRunner
from jointsearch.errors import StudyError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.origin import Origin
from jointsearch.search.learning_rate import attribute_of, stored_sweep
from jointsearch.study.plans import export_plan
from jointsearch.study.queue import request
from jointsearch.study.storage.locks import try_study_lock
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import find_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


@pytest.fixture
def study(create: Create) -> StoredStudy:
    """4 uniform plans of ranks 0 and 4, and 6 of the search."""
    return create(calibration={"learning_rate": "auto"})


def test_trials_train_at_the_rate_that_was_found(study: StoredStudy, layout: ModelLayout) -> None:
    runner = RatesRunner(layout)
    Worker(study, runner).run()
    sweep = stored_sweep(study.optuna_study.user_attrs, study.space.lora)
    assert sweep is not None
    assert (sweep.learning_rate, study.learning_rate(study.space.lora)) == (1e-2, 1e-2)
    # the one trained rank of the space
    assert [(run.plan, run.learning_rate, run.loss is None) for run in sweep.runs] == [
        ("uniform 4-bit rank 4", 1e-3, False),
        ("uniform 4-bit rank 4", 1e-2, False),
        ("uniform 4-bit rank 4", 1e-1, True),
    ]
    trials = [told for told in runner.told if told[1] is None or told not in runner.told[1:4]]
    assert {rate for plan, rate in trials if plan.ranks} == {1e-2}
    assert {rate for plan, rate in trials if not plan.ranks} == {None}
    assert len(study.records().complete) == 10


def test_what_is_exported_names_the_rate(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, RatesRunner(layout)).run()
    number = next(trial.number for trial in study.records().complete if trial.plan.ranks)
    plan = export_plan(study, number)
    assert plan.study.calibration.learning_rate == plan.study.full_run.learning_rate == 1e-2
    assert study.config.calibration.learning_rate == "auto"


def test_a_number_and_a_runner_of_its_own_rate_need_no_sweep(create: Create, layout: ModelLayout) -> None:
    given = create(name="given", calibration={"learning_rate": 0.5})
    runner = RatesRunner(layout)
    Worker(given, runner).run()
    own = create(name="own", calibration={"learning_rate": "auto"})
    Worker(own, FakeRunner(layout)).run()
    assert {rate for _, rate in runner.told} == {None}
    for study in (given, own):
        assert stored_sweep(study.optuna_study.user_attrs, study.space.lora) is None
        assert len(study.records().complete) == 10


def test_a_sweep_that_was_stopped_is_gone_on_with(
    study: StoredStudy, storage: Any, layout: ModelLayout
) -> None:
    first = RatesRunner(layout, stop_at=3)
    first.worker = Worker(study, first)
    first.worker.run()
    assert [rate for plan, rate in first.told if plan.ranks] == [1e-3, 1e-2]
    assert study.learning_rate(study.space.lora) is None
    again = find_study(storage, study.name)
    assert again is not None
    second = RatesRunner(layout)
    Worker(again, second).run()
    assert next(rate for plan, rate in second.told if plan.ranks) == 1e-1
    assert again.learning_rate(again.space.lora) == 1e-2
    assert len(again.records().complete) == 10


def test_other_adapters_get_a_rate_of_their_own(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, RatesRunner(layout)).run()
    dora = LoraSettings(variant="dora")
    plan = study.space.plan(study.space.uniform("nf4", 4)).model_copy(update={"lora": dora})
    request(study, plan, Origin(kind="strategy", name="dora"), seed=0)
    runner = RatesRunner(layout, best=1e-3)
    Worker(study, runner).run()
    assert study.learning_rate(dora) == 1e-3
    assert study.learning_rate(study.space.lora) == 1e-2
    assert runner.told[-1] == (plan, 1e-3)


def test_who_does_not_sweep_waits_for_who_does(
    study: StoredStudy, layout: ModelLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = RatesRunner(layout)
    worker = Worker(study, runner)
    waits: list[int] = []

    def waited(loop: Any) -> None:
        waits.append(len(runner.told))
        value = {"learning_rate": 3e-3, "rates": [3e-3], "runs": []}
        study.optuna_study.set_user_attr(attribute_of(study.space.lora), value)

    monkeypatch.setattr("jointsearch.study.worker.loop.WorkLoop.wait", waited)
    with try_study_lock(study.optuna_study, "learning rate") as mine:
        assert mine
        worker.run()
    assert waits == [1]  # after the plan of rank 0
    assert {rate for plan, rate in runner.told if plan.ranks} == {3e-3}


def test_where_every_rate_diverges_the_study_says_so(study: StoredStudy, layout: ModelLayout) -> None:
    with pytest.raises(
        StudyError, match=r"uniform 4-bit rank 4 diverges at every learning rate down to 0\.0001"
    ):
        Worker(study, RatesRunner(layout, best=1e-9)).run()
    assert not [trial for trial in study.records().failed if trial.failure and not trial.requested]
