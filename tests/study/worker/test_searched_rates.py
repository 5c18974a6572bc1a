"""``search_space.learning_rates``: the learning rate as one more parameter of every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from optuna.distributions import IntDistribution

from fixtures.rates import RatesRunner
from jointsearch.cli import cli
from jointsearch.config.search import FinalsSettings
from jointsearch.config.study import StudyConfig
from jointsearch.dashboard.data.trials import trials_table
from jointsearch.dashboard.pages.trials import columns
from jointsearch.errors import StudyError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import ModuleChoice
from jointsearch.plan.plan_file import read_plan, write_plan
from jointsearch.runner import Trial
from jointsearch.search.learning_rate import stored_sweep
from jointsearch.study.analysis.compare import ComparisonSettings, compare
from jointsearch.study.analysis.finals import request_anchors, request_finals
from jointsearch.study.analysis.prediction import predict_front
from jointsearch.study.analysis.refine import refine
from jointsearch.study.plans import export_plan
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]

RATES = (3e-3, 1e-2, 2e-2, 1e-1)
"""The runner's loss is lowest at 1e-2, and it diverges at 1e-1."""
OWN = ["additive", "autoqra", "gp-bytes", "primo", "qr-adaptor", "tpe-bytes"]
OPTUNAS = ["tpe", "gp", "nsga2", "random"]


@pytest.fixture
def make(create: Create) -> Create:
    def made(**sections: object) -> StoredStudy:
        space = {"learning_rates": RATES[::-1], **sections.pop("search_space", {})}  # type: ignore[dict-item]
        return create(calibration={"learning_rate": "auto"}, search_space=space, **sections)

    return made


@pytest.mark.parametrize("sampler", OWN + OPTUNAS)
def test_every_sampler_proposes_rates(make: Create, layout: ModelLayout, sampler: str) -> None:
    study = make(search={"sampler": sampler, "trials": 16})
    runner = RatesRunner(layout)
    Worker(study, runner).run()
    assert study.space.learning_rates == RATES
    trials = study.optuna_study.trials
    sweep = stored_sweep(study.optuna_study.user_attrs, study.space.lora)
    assert sweep is not None
    assert len(trials) == 16
    for trial in trials:
        assert trial.distributions["learning_rate"] == IntDistribution(0, 3)
        assert trial.user_attrs["plan"]["learning_rate"] == RATES[trial.params["learning_rate"]]
    # every run of a trial was told its rate; baselines and the sweep have the sweep's
    told = [rate for _, rate in runner.told[len(sweep.runs) :]]
    assert Counter(told) == Counter(
        RATES[trial.params["learning_rate"]] for trial in trials if trial.user_attrs.get("copy_of") is None
    )
    baselines = [trial for trial in study.records().trials if trial.origin.kind == "uniform"]
    assert [trial.learning_rate for trial in baselines] == [1e-2] * 4
    # NSGA-II breeds from the baselines, and comes to other rates by mutation alone
    assert sampler == "nsga2" or len({trial.params["learning_rate"] for trial in trials[4:]}) > 1


@pytest.mark.parametrize("sampler", ["additive", "gp-bytes"])
def test_rates_that_lose_are_left_alone(make: Create, layout: ModelLayout, sampler: str) -> None:
    study = make(search={"sampler": sampler, "trials": 32}, search_space={"ranks": [0, 2, 4, 8]})
    Worker(study, RatesRunner(layout)).run()
    late = [trial.learning_rate for trial in study.records().trials[-12:]]
    assert late.count(1e-2) >= 9  # by chance 3
    assert 1e-1 not in late


def test_a_plan_keeps_its_rate_in_further_seeds_finals_and_exports(
    make: Create, layout: ModelLayout, tmp_path: Path
) -> None:
    study = make(search={"sampler": "additive", "trials": 16})
    runner = RatesRunner(layout, best=5e-3)  # the sweep finds 3e-3
    Worker(study, runner).run()
    plan = study.space.plan({**study.space.uniform("16bit", 4), "learning_rate": 1})
    request(study, plan)
    Worker(study, runner).run()
    found = study.records().complete[-1]
    assert (found.plan, found.learning_rate) == (plan, 1e-2)
    write_plan(export_plan(study, found.number), tmp_path / "plan.json")
    exported = read_plan(tmp_path / "plan.json")
    assert exported.plan.learning_rate == 1e-2
    assert exported.study.calibration.learning_rate == exported.study.full_run.learning_rate == 1e-2
    # the same modules at another rate are another plan
    uniform = next(t for t in study.records().complete if t.origin.name == "uniform 16-bit rank 4")
    assert uniform.learning_rate == 3e-3
    assert uniform.plan.modules == found.plan.modules
    assert uniform.digest != found.digest

    settings = FinalsSettings(times=(2,))
    num = request_finals(study, settings)
    Worker(study, runner, num_trials=0).run()
    finals = study.records().at(10).complete
    assert num == len(finals) > 0
    rates = {trial.digest: trial.learning_rate for trial in study.records().at(None).complete}
    assert all(trial.learning_rate == rates[trial.digest] for trial in finals)
    assert request_finals(study, settings) == 0

    assert refine(study, 1) + refine(study, 1) > 0
    Worker(study, runner, num_trials=0).run()
    assert {trial.learning_rate for trial in study.records().all_complete} <= set(RATES)


def test_what_needs_no_search_has_the_sweeps_rate_and_is_asked_for_once(
    make: Create, layout: ModelLayout
) -> None:
    study = make(search={"trials": 6, "finals": {"times": [2]}})
    Worker(study, RatesRunner(layout)).run()
    assert request_anchors(study) == 0
    anchors = [t for t in study.records().at(10).complete if t.origin.kind == "uniform"]
    assert {trial.learning_rate for trial in anchors} == {1e-2}
    # a person's plan from outside of the space
    outside = study.space.plan(study.space.uniform("16bit", 4))
    outside = outside.model_copy(
        update={"modules": outside.modules | {"layers.0.mlp.up": ModuleChoice(bits=8, rank=1)}}
    )
    request(study, outside)
    Worker(study, RatesRunner(layout), num_trials=0).run()
    assert study.records().trials[-1].plan == outside.at(1e-2)
    assert study.optuna_study.trials[-1].params == {}


def test_strategies_are_compared_at_the_sweeps_rate(make: Create, layout: ModelLayout) -> None:
    study = make()
    runner = RatesRunner(layout)

    def work() -> None:
        Worker(study, runner, num_trials=0).run()

    settings = ComparisonSettings(strategies=("qlora", "lora"), num_seeds=2)
    found = compare(study, settings, lambda: FakeRunner(layout), work)
    assert found is not None
    assert {trial.learning_rate for trial in study.records().complete} == {1e-2}
    num = len(study.records().trials)
    assert compare(study, settings, lambda: FakeRunner(layout), work) is not None
    assert len(study.records().trials) == num


def test_the_predicted_front_is_at_the_best_rate(make: Create, layout: ModelLayout) -> None:
    study = make(search={"sampler": "additive", "trials": 24})
    Worker(study, RatesRunner(layout)).run()
    front = predict_front(study)
    assert {RATES[point.values["learning_rate"]] for point in front} == {1e-2}
    for point in front:  # the fake loss at the best rate has no excess
        exact = FakeRunner(layout).run(study.space.plan(point.values), Trial()).metrics["loss"]
        assert point.quality == pytest.approx(exact, abs=0.02)


def test_a_runner_of_its_own_rate_is_refused(make: Create, layout: ModelLayout) -> None:
    with pytest.raises(StudyError, match=r"need a runner that trains at Trial\.learning_rate, but got FakeR"):
        Worker(make(), FakeRunner(layout)).run()


def test_rates_are_shown(make: Create, layout: ModelLayout, url: str) -> None:
    study = make(search={"trials": 8})
    Worker(study, RatesRunner(layout)).run()
    complete = Counter(trial.learning_rate for trial in study.records().complete)
    told = CliRunner().invoke(cli, ["study", "status", study.name, "--storage", url]).output
    line = next(line for line in told.splitlines() if "rates searched" in line)
    for rate in RATES:
        assert f"{rate:g} in {complete[rate]}" in " ".join(told.split())
    assert line
    table = trials_table(study, study.records())
    assert [row["rate"] for row in table.rows] == [trial.learning_rate for trial in study.records().trials]
    shown = [column["field"] for column in columns(table, study.config.objectives, (), with_rates=True)]
    hidden = [column["field"] for column in columns(table, study.config.objectives, (), with_rates=False)]
    assert [field for field in shown if field not in hidden] == ["rate"]
    front = CliRunner().invoke(cli, ["front", study.name, "--storage", url, "--format", "json"]).output
    assert '"learning_rate": 0.01' in front


def test_a_rate_that_is_named_needs_no_sweep(create: Create, layout: ModelLayout) -> None:
    study = create(calibration={"learning_rate": 3e-3}, search_space={"learning_rates": RATES})
    runner = RatesRunner(layout)
    Worker(study, runner).run()
    assert stored_sweep(study.optuna_study.user_attrs, study.space.lora) is None
    baselines = [trial for trial in study.records().trials if trial.origin.kind == "uniform"]
    assert [trial.learning_rate for trial in baselines] == [3e-3] * 4
    assert [rate for _, rate in runner.told[:4]] == [3e-3] * 4
    plan = study.space.plan(study.space.uniform("nf4", 4))
    assert study.rated(plan) == plan.at(3e-3)


def test_a_rate_that_is_not_searched_is_refused(configure: Configure) -> None:
    message = r"must be auto or among search_space.learning_rates \(0\.001, 0\.01\), but got 0\.5"
    with pytest.raises(ValueError, match=message):
        configure(search_space={"learning_rates": [1e-3, 1e-2]}, calibration={"learning_rate": 0.5})
