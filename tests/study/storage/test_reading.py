"""Reading a study without Optuna: the same trials, and only what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from jointsearch.plan.layout import ModelLayout
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.records import RecordReader
from jointsearch.study.storage.internals import engine_of
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


def contents(trial: FrozenTrial) -> tuple[object, ...]:
    """All but parameters and system attributes."""
    times = trial.datetime_start, trial.datetime_complete
    return trial.number, trial._trial_id, trial.state, trial.values, times, trial.user_attrs


def check(study: StoredStudy) -> None:
    found = RecordReader(study.optuna_study, study.config.objectives).read().trials
    expected = study.optuna_study.get_trials()
    assert [contents(trial.frozen) for trial in found] == [contents(trial) for trial in expected]
    assert not any(trial.frozen.params for trial in found)


def fill(study: StoredStudy, layout: ModelLayout) -> None:
    """One trial of every state."""
    Worker(study, FakeRunner(layout), max_trials=3).run()
    with experimental_optuna():
        asked = [study.optuna_study.ask() for _ in range(3)]
    asked[0].set_user_attr("failure", "no")
    study.optuna_study.tell(asked[0], state=TrialState.FAIL)
    study.optuna_study.tell(asked[1], state=TrialState.PRUNED)
    study.optuna_study.tell(asked[2], [float("inf"), float("-inf")])


def test_the_trials_are_those_of_optuna(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 8})
    check(study)
    fill(study, layout)
    states = [trial.state for trial in study.records().trials]
    assert states == [TrialState.COMPLETE] * 3 + [TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    assert list(study.records().trials[-1].values.values()) == [float("inf"), float("-inf")]
    check(study)


def test_on_postgresql(create: Create, layout: ModelLayout, postgres_url: str) -> None:
    local = create()
    study = create_study(open_storage(postgres_url, create=True), local.config, layout)
    fill(study, layout)
    check(study)
    engine = engine_of(study.optuna_study)
    assert engine is not None
    engine.dispose()


@contextmanager
def rows_read(study: StoredStudy) -> Iterator[list[str]]:
    """The statements that are sent, but for the look at the identity that begins each transaction."""
    statements: list[str] = []
    engine = engine_of(study.optuna_study)
    assert engine is not None

    def note(_connection: object, _cursor: object, statement: str, *rest: object) -> None:
        if not statement.startswith("SELECT studies.study_name, study_user_attributes.value_json"):
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def test_what_has_finished_is_read_once(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 6})
    Worker(study, FakeRunner(layout)).run()
    reader = RecordReader(study.optuna_study, study.config.objectives)
    first = reader.read()
    with rows_read(study) as statements:
        assert reader.read() is first
    assert len([s for s in statements if s.startswith("SELECT")]) == 1
    with experimental_optuna():
        trial = study.optuna_study.ask()
    second = reader.read()
    assert [new is old for new, old in zip(second.trials, first.trials, strict=False)] == [True] * 6
    assert second.trials[-1].state == TrialState.RUNNING
    trial.set_user_attr("worker", "me:1")
    assert reader.read().trials[-1].worker == "me:1"
    study.optuna_study.tell(trial, [1.0, 2.0])
    assert reader.read().trials[-1].values == {"loss": 1.0, "model_bytes": 2.0}


def test_in_chunks(create: Create, layout: ModelLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    study = create(search={"trials": 7})
    Worker(study, FakeRunner(layout)).run()
    monkeypatch.setattr("jointsearch.study.storage.reading.CHUNK", 3)
    check(study)
