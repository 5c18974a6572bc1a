"""Plans that are selected to be trained in full."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.full_runs import FakeTrainer, runs_of, states, work
from jointsearch.errors import StudyError
from jointsearch.study.full_runs import (
    select_trial,
    selected,
    selections,
    withdraw_trial,
)
from jointsearch.study.plans import chosen_trial
from jointsearch.study.stored import StoredStudy

Reopen = Callable[[], StoredStudy]


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
