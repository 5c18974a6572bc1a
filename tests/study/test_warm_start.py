"""The plans that a search starts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.errors import PlanError
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import Trial
from jointsearch.study.stored import StoredStudy
from jointsearch.study.warm_start import sensitivities_of, warm_start
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]
UNIFORM = [f"uniform {bits}-bit rank {rank}" for bits in (4, 16) for rank in (0, 4)]
SPACE = {"bits": [4, 8, 16], "ranks": [0, 2, 4, 6], "enqueue": ["linear-decay", "complementary"]}


@dataclass
class Probing:
    """The fake runner, with a count of what it measured."""

    layout: ModelLayout
    probes: list[int] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self.runs.append(plan.lora.variant)
        return FakeRunner(self.layout).run(plan, trial)

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        self.probes.append(rank)
        return FakeRunner().sensitivities(layout, rank)


def labels(study: StoredStudy) -> list[str]:
    return [trial.origin.name for trial in study.records().trials]


def test_strategies_are_in_the_queue_as_plans_of_the_space(create: Create) -> None:
    study = create(search_space=SPACE)
    assert labels(study) == ["linear-decay", "complementary"]
    linear, complementary = study.records().trials
    # the middle rank is 4: 1.5 and 0.5 times as much at the top and the bottom
    assert {name: rank for name, rank in linear.plan.ranks.items() if ".attn.q" in name} == {
        "layers.0.attn.q": 2,
        "layers.1.attn.q": 6,
    }
    assert {choice.bits for choice in linear.plan.modules.values()} == {4}
    assert complementary.plan.modules["layers.0.mlp.up"].bits == 8
    assert complementary.plan.modules["layers.1.mlp.up"].bits == 4
    for trial in (linear, complementary):
        params = study.optuna_study.trials[trial.number].params
        assert set(params) == set(study.space.parameters)
        assert study.space.plan(params) == trial.plan


def test_uniform_plans_come_with_others_in_the_order_of_the_file(create: Create) -> None:
    study = create(search_space={"enqueue": ["uniform", "sensitive-8bit"]})
    # on this grid of 4 and 16 bits that is a uniform plan: it has its name already
    assert labels(study) == UNIFORM
    study = create(name="other", search_space={**SPACE, "enqueue": ["linear-decay", "uniform"]})
    assert labels(study)[:2] == ["linear-decay", "uniform 4-bit rank 0"]


def test_what_needs_measuring_waits_for_the_model_and_is_measured_once(
    create: Create, layout: ModelLayout
) -> None:
    study = create(
        search_space={**SPACE, "enqueue": ["ilp", "gradient", "linear-decay", "adalora-distilled"]}
    )
    assert labels(study) == ["linear-decay"]
    runner = Probing(layout)
    warm_start(study, runner)
    assert labels(study) == ["linear-decay", "ilp", "gradient", "adalora-distilled"]
    assert runner.probes == [4]
    assert runner.runs == ["adalora"]
    warm_start(study, runner)
    assert len(labels(study)) == 4
    assert len(runner.probes) == len(runner.runs) == 1
    assert sensitivities_of(study, lambda: runner) == FakeRunner().sensitivities(layout, 4)
    assert runner.probes == [4]


def test_a_study_without_such_strategies_measures_nothing(create: Create, layout: ModelLayout) -> None:
    runner = Probing(layout)
    warm_start(create(), runner)
    assert not runner.probes


def test_a_search_learns_from_the_plans_that_it_starts_with(create: Create, layout: ModelLayout) -> None:
    study = create(search_space=SPACE, search={"sampler": "tpe", "trials": 6})
    Worker(study, FakeRunner(layout)).run()
    records = study.records()
    assert len(records.complete) == 6
    assert [trial.origin.name for trial in records.trials[:3]] == ["linear-decay", "complementary", ""]
    assert [point.origin.name for point in records.baselines] == ["linear-decay", "complementary"]
    # the box of the hypervolume is that of uniform plans, which this study has not
    assert records.hypervolume is None


def test_a_strategy_that_the_model_cannot_have_is_refused(create: Create) -> None:
    with pytest.raises(PlanError, match="encoder-8bit-decoder-4bit: it needs an encoder and a decoder"):
        create(search_space={"enqueue": ["encoder-8bit-decoder-4bit"]})


def test_a_study_cannot_have_adalora_itself(configure: Callable[..., StudyConfig]) -> None:
    with pytest.raises(ValueError, match="adalora leaves no ranks to search"):
        configure(lora={"variant": "adalora"})
