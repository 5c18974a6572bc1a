"""What ``FilteredStudy`` relies on of Optuna's samplers, read from their source: upgrades must fail here."""

from __future__ import annotations

import ast
from pathlib import Path

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.samplers import GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.search.optuna_compat import FilteredStudy, experimental_optuna

SAMPLERS = Path(optuna.__file__).parent / "samplers"

ASK_THE_STORAGE = ("_grid.py", "_brute_force.py")
"""On purpose, past every filter: they look for trials of their own in it."""

USED_OF_A_STUDY = {
    "_get_trials",  # all that is filtered
    "get_trials",  # calls it
    "_storage",
    "_study_id",
    "_is_multi_objective",
    "direction",
    "directions",
    "sampler",
    "study_name",
}
USED_OF_A_STORAGE = {
    "get_study_system_attrs",
    "get_trial",
    "get_trial_system_attrs",
    "set_study_system_attr",
    "set_trial_system_attr",
}
"""Of one trial, or of the study: a filter of trials changes neither."""


def attributes(of: str) -> set[str]:
    """What the source of Optuna's samplers uses of ``study``, or of ``study._storage``."""
    found = set()
    for path in SAMPLERS.rglob("*.py"):
        if path.name in ASK_THE_STORAGE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == of:
                found.add(node.attr)
    return found


def test_samplers_ask_a_study_for_its_trials_in_one_way() -> None:
    assert "_get_trials" in attributes("study")
    assert attributes("study") <= USED_OF_A_STUDY
    assert attributes("study._storage") <= USED_OF_A_STORAGE
    assert callable(optuna.Study._get_trials)


@pytest.fixture
def study() -> optuna.Study:
    """Twelve trials with a parameter, and twelve better ones without."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    space = {"x": IntDistribution(0, 11)}
    for x in range(12):
        study.add_trial(create_trial(params={"x": x}, distributions=space, values=[x, 12 - x]))
        study.add_trial(create_trial(values=[-1.0, -1.0]))
    return study


def has_x(trial: FrozenTrial) -> bool:
    return "x" in trial.params


def test_every_way_to_the_trials_is_filtered(study: optuna.Study) -> None:
    seen = FilteredStudy(study, has_x)
    kept = list(range(0, 24, 2))
    assert [trial.number for trial in seen.trials] == kept
    assert [trial.number for trial in seen.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))] == kept
    assert [trial.number for trial in seen._get_trials(use_cache=True)] == kept
    assert [trial.number for trial in seen.best_trials] == kept
    assert (seen.study_name, seen.directions) == (study.study_name, study.directions)
    seen.set_user_attr("a", 1)
    assert study.user_attrs == {"a": 1}


@pytest.mark.parametrize("name", ["nsga2", "tpe", "gp"])
def test_samplers_search_together_what_the_kept_trials_share(study: optuna.Study, name: str) -> None:
    """Without the filter the trials have no parameter in common, and nothing is searched together."""
    make = {
        "nsga2": lambda: NSGAIISampler(population_size=12, seed=0),
        "tpe": lambda: TPESampler(multivariate=True, seed=0),
        "gp": lambda: GPSampler(seed=0),
    }[name]
    trial = study._storage.get_trial(study.ask()._trial_id)
    with experimental_optuna():
        whole = make().infer_relative_search_space(study, trial)
        seen = make().infer_relative_search_space(FilteredStudy(study, has_x), trial)
    assert (whole, seen) == ({}, {"x": IntDistribution(0, 11)})
