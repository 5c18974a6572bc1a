from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.distributions import IntDistribution
from optuna.samplers import NSGAIISampler
from optuna.storages import RDBStorage

from jointsearch.config.search import SearchSettings
from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import ModuleChoice
from jointsearch.search.attributes import COPY_OF
from jointsearch.search.in_space import InSpace
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.search.samplers import build_sampler, distributions
from jointsearch.space import SearchSpace
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import find_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]

GENERATION = "NSGAIISampler:generation"
SAMPLERS = [
    *("additive", "nsga2", "tpe", "gp", "random"),
    *("autoqra", "gp-bytes", "primo", "qr-adaptor", "tpe-bytes"),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_fills_a_study(create: Create, layout: ModelLayout, sampler: str) -> None:
    study = create(search={"sampler": sampler, "trials": 16})
    Worker(study, FakeRunner(layout)).run()
    records = study.records()
    assert len(records.complete) == len(records.trials) == 16
    assert [bool(trial.origin.name) for trial in records.trials] == [True] * 4 + [False] * 12
    proposed = {trial.digest for trial in records.trials[4:]} - {trial.digest for trial in records.trials[:4]}
    assert len(proposed) > 3
    for trial in study.optuna_study.trials:
        assert trial.distributions == distributions(study.space)
        assert trial.params.keys() == study.space.parameters.keys()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_plan_from_outside_of_the_space_disturbs_no_sampler(
    create: Create, layout: ModelLayout, sampler: str
) -> None:
    study = create(search={"sampler": sampler, "trials": 13}, search_space={"ranks": [0, 2, 4, 8]})
    outside = study.space.plan(study.space.uniform("16bit", 8))
    modules = outside.modules | {"layers.0.mlp.up": ModuleChoice(bits=8, rank=1)}
    outside = outside.model_copy(update={"modules": modules})
    assert study.space.params_of(outside) is None
    request(study, outside)
    Worker(study, FakeRunner(layout)).run()
    assert len(study.records().complete) == 14
    without = [trial for trial in study.optuna_study.trials if not trial.params]
    assert [GENERATION in trial.system_attrs for trial in without] == [False]

    # all parameters are still proposed at once, by all but random search
    inner, optuna_study = study.optuna_study.sampler, study.optuna_study
    with experimental_optuna():
        running = optuna_study._storage.get_trial(optuna_study.ask()._trial_id)
    searched = inner.infer_relative_search_space(optuna_study, running)
    assert searched == distributions(study.space)
    proposed = inner.sample_relative(optuna_study, running, searched)
    assert proposed.keys() <= searched.keys()  # NSGA-II leaves out what it mutates
    assert bool(proposed) == (sampler != "random")


def test_a_parameter_is_the_position_in_its_choices(create: Create) -> None:
    study = create(search_space={"bits": [4, 8, 16], "ranks": [0, 4]})
    found = distributions(study.space)
    assert found["layers.0.mlp.bits"] == IntDistribution(0, 2)
    assert found["layers.0.mlp.rank"] == IntDistribution(0, 1)
    assert len(found) == 1 + 4 * 2  # the embedding has no rank


def test_the_baselines_are_the_first_generation_of_nsga2(create: Create, layout: ModelLayout) -> None:
    study = create(
        search={"sampler": "nsga2", "trials": 40}, search_space={"bits": [4, 8, 16], "ranks": [0, 4, 8, 16]}
    )
    Worker(study, FakeRunner(layout)).run()
    trials = study.optuna_study.trials
    generations = [trial.system_attrs[GENERATION] for trial in trials]
    # 12 baselines are more than a quarter of 40 trials: they are the population
    assert generations == [0] * 12 + [1] * 12 + [2] * 12 + [3] * 4
    assert [bool(trial.origin.name) for trial in study.records().trials] == [True] * 12 + [False] * 28

    sampler = study.optuna_study.sampler
    assert isinstance(sampler, InSpace)
    assert isinstance(sampler.inner, NSGAIISampler)
    parents = sampler.inner.get_parent_population(study.optuna_study, 1)
    assert {trial.number for trial in parents} == set(range(12))
    # crossover of uniform plans gives plans that are not uniform
    positions = {tuple(sorted(trial.params.items())) for trial in trials[:12]}
    assert any(tuple(sorted(trial.params.items())) not in positions for trial in trials[12:24])


def test_a_larger_study_has_a_larger_population(layout: ModelLayout) -> None:
    space = SearchSpace.build(layout, SpaceSettings(ranks=(0, 4)))

    def population(trials: int, num_enqueued: int) -> int | None:
        settings = SearchSettings(sampler="nsga2", trials=trials)
        sampler = build_sampler(settings, space, layout, "loss", num_enqueued=num_enqueued)
        assert isinstance(sampler, InSpace)
        assert isinstance(sampler.inner, NSGAIISampler)
        return sampler.inner.population_size

    assert population(8, 0) == 4
    assert population(60, 12) == 15
    assert population(40, 12) == 12
    assert population(10_000, 12) == 20
    assert population(10_000, 60) == 60


def test_a_resumed_study_does_not_repeat_its_proposals(
    create: Create, configure: Configure, storage: RDBStorage, layout: ModelLayout
) -> None:
    space = {
        "bits": [4, 8, 16],
        "ranks": [0, 1, 2, 4, 8, 16],
        "enqueue": [],
    }  # 3 · 18⁴ plans: none comes twice by chance
    search = {"sampler": "random"}
    create(search={**search, "trials": 6}, search_space=space)
    for trials in (6, 12, 18):
        stored = find_study(storage, "small")
        assert stored is not None
        config = configure(search={**search, "trials": trials}, search_space=space)
        Worker(StoredStudy(stored.optuna_study, config), FakeRunner(layout)).run()
    assert stored is not None
    records = stored.records()
    assert len(records.complete) == 18
    assert len({trial.digest for trial in records.complete}) == 18
    assert not any(COPY_OF in trial.frozen.user_attrs for trial in records.complete)


def test_the_seed_decides_the_proposals(create: Create, layout: ModelLayout) -> None:
    def proposals(name: str, seed: int) -> list[str]:
        study = create(name=name, search={"seed": seed, "trials": 8}, search_space={"enqueue": []})
        Worker(study, FakeRunner(layout)).run()
        return [trial.digest for trial in study.records().trials]

    assert proposals("one", 1) == proposals("again", 1)
    assert proposals("other", 2) != proposals("once-more", 1)
