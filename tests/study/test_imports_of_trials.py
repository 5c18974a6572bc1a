"""``study import``: finished trials of a compatible study as a start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from jointsearch.cli import cli
from jointsearch.errors import StudyError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.origin import Origin
from jointsearch.study.imports import import_trials
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


@pytest.fixture
def other(create: Create, layout: ModelLayout) -> StoredStudy:
    """A finished study with a request beside its trials."""
    study = create(name="other", search={"trials": 6})
    request(study, study.space.plan({}), Origin(kind="strategy", name="asked for"), seed=9)
    Worker(study, FakeRunner(layout, noise=0.1)).run()
    return study


def test_finished_trials_are_taken_over_on_top(
    create: Create, other: StoredStudy, url: str, layout: ModelLayout
) -> None:
    study = create(search={"trials": 5, "sampler": "nsga2", "seed": 8})
    command = ["study", "import", "small", "--from", "other", "--storage", url]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.stderr == "imported 7 trials of study 'other' into 'small'\n"
    before = study.records()
    pairs = list(zip(before.complete, other.records().complete, strict=True))
    assert len(pairs) == 7
    for mine, theirs in pairs:
        params = [s.optuna_study.trials[t.number].params for s, t in ((study, mine), (other, theirs))]
        assert params[0] == params[1] != {}
        assert (mine.values, mine.plan, mine.seed, mine.origin.name, mine.measurement) == (
            theirs.values,
            theirs.plan,
            theirs.seed,
            theirs.origin.name,
            theirs.measurement,
        )
        assert mine.frozen.user_attrs["imported_from"] == f"other:{theirs.number}"
    assert before.num_searched == 0
    assert before.num_left(5) == 5

    assert import_trials(study, other) == 0
    assert len(study.records().trials) == len(before.trials)

    Worker(study, FakeRunner(layout, noise=0.1)).run()
    after = study.records()
    assert len(after.complete) == 7 + 5
    assert after.num_searched == 5
    baselines = [trial for trial in after.complete if trial.searched and trial.origin.name]
    # the baselines of both are the same plans with the same seed: known by now
    assert len(baselines) == 4
    assert {trial.copy_of for trial in baselines} <= {trial.number for trial in before.complete}


def test_a_copy_and_a_failure_are_no_measurements(create: Create, layout: ModelLayout) -> None:
    few = {"include": ["layers.0.mlp.*"], "ranks": [4]}
    other = create(name="other", search_space={**few, "enqueue": []}, search={"trials": 8})
    Worker(other, FakeRunner(layout)).run()
    study = create(search_space=few)
    assert import_trials(study, other) == 2
    assert {trial.state for trial in study.records().trials} == {TrialState.WAITING, TrialState.COMPLETE}


def test_what_means_something_else_is_refused_with_the_difference(create: Create, other: StoredStudy) -> None:
    study = create(calibration={"steps": 50}, search_space={"ranks": [0, 8]})
    with pytest.raises(StudyError) as caught:
        import_trials(study, other)
    message = str(caught.value)
    assert "'other' and 'small' differ" in message
    assert "calibration.steps: 5 -> 50" in message
    assert "search_space.ranks: [0, 4] -> [0, 8]" in message
    assert "\n" not in message
    assert study.records().complete == ()


def test_from_another_storage(create: Create, other: StoredStudy, url: str, tmp_path: Path) -> None:
    create()
    command = ["study", "import", "small", "--from", "other", "--storage", url, "--from-storage"]
    result = CliRunner().invoke(cli, [*command, url], catch_exceptions=False)
    assert result.stderr.startswith("imported 7 trials")
    missing = CliRunner().invoke(cli, [*command, f"sqlite:///{tmp_path}/none.db"])
    assert "there is no storage" in str(missing.exception)
