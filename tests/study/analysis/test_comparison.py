"""Comparisons with a runner that answers at once: what is measured, and what the table says of it."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from scipy import stats

from jointsearch.dashboard.comparison_report import comparison_html
from jointsearch.dashboard.figures.comparison import compared_points, difference_figure, quality_figure
from jointsearch.errors import PlanError, TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import Trial
from jointsearch.study.analysis.compare import CONFIGURATIONS, ComparisonSettings, compare
from jointsearch.study.analysis.comparison import Comparison, is_better, paired_difference
from jointsearch.study.analysis.comparison_formats import cells, columns, csv_text, json_text, markdown
from jointsearch.study.full_runs import select_trial
from jointsearch.study.plans import export_plan
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


@dataclass
class Noisy:
    """The fake runner with noise that a seed shares out alike, and a list of what ran."""

    layout: ModelLayout
    noise: float = 0.02
    fails: Callable[[Plan, Trial], bool] = lambda plan, budget: False
    runs: list[tuple[str, int]] = field(default_factory=list)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self.runs.append((plan.digest, trial.seed))
        if self.fails(plan, trial):
            raise TrialFailed("diverged: the loss is nan")
        return FakeRunner(self.layout, self.noise).run(plan, trial)

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        return FakeRunner().sensitivities(layout, rank)


def compared(study: StoredStudy, runner: Noisy, settings: ComparisonSettings) -> Comparison:
    found = compare(study, settings, lambda: runner, lambda: Worker(study, runner, num_trials=0).run())
    assert found is not None
    return found


@pytest.fixture
def runner(layout: ModelLayout) -> Noisy:
    return Noisy(layout)


def test_the_five_configurations_with_three_seeds(create: Create, runner: Noisy, layout: ModelLayout) -> None:
    study = create()
    found = compared(study, runner, ComparisonSettings())
    assert {row.name for row in found.rows} == set(CONFIGURATIONS)
    assert found.rows[0].name == found.reference == "qlora"
    assert [row.model_bytes for row in found.rows[1:]] == sorted(row.model_bytes for row in found.rows[1:])
    assert len(runner.runs) == len(set(runner.runs)) == 15
    records = study.records()
    assert len(records.waiting) == 4  # the search's own trials are not run
    by_name = {row.name: row for row in found.rows}
    for name, row in by_name.items():
        trials = [records.trials[number] for number in row.trials]
        assert [trial.origin.name for trial in trials] == [name] * 3
        assert [trial.seed for trial in trials] == [0, 1, 2]
        assert row.qualities == {trial.seed: trial.values["loss"] for trial in trials}
        assert row.mean == pytest.approx(statistics.fmean(row.qualities.values()))
        assert row.standard_error == pytest.approx(stats.sem(list(row.qualities.values())))
        assert row.model_bytes == plan_cost(layout, trials[0].plan).model_bytes
        if name != "qlora":
            assert row.difference is not None
            pair = list(row.qualities.values()), list(by_name["qlora"].qualities.values())
            interval = stats.ttest_rel(*pair).confidence_interval(0.95)
            assert (row.difference.low, row.difference.high) == pytest.approx((interval.low, interval.high))
    assert by_name["qlora"].difference is None


def test_what_is_measured_is_not_measured_again(create: Create, runner: Noisy) -> None:
    study = create()
    first = compared(study, runner, ComparisonSettings())
    num_runs = len(runner.runs)
    nothing = compare(study, ComparisonSettings(), pytest.fail, pytest.fail)
    assert nothing == first
    more = compared(study, runner, ComparisonSettings(num_seeds=4))
    assert len(runner.runs) == num_runs + 5
    assert {len(row.qualities) for row in more.rows} == {4}


def test_the_search_s_trials_count_and_its_front_is_compared(create: Create, runner: Noisy) -> None:
    study = create(search={"trials": 30}, search_space={"ranks": [0, 3, 4, 5]})
    Worker(study, runner).run()
    num_runs = len(runner.runs)
    searched = study.records()
    found = compared(study, runner, ComparisonSettings(("qlora", "ilp"), num_seeds=2))
    by_name = {row.name: row for row in found.rows}
    # the uniform plan was measured with seed 0 by the search
    (uniform,) = [trial for trial in searched.complete if trial.origin.name == "uniform 4-bit rank 4"]
    assert by_name["qlora"].trials[0] == uniform.number
    front = {name: row for name, row in by_name.items() if name.startswith("front")}
    assert front
    qlora = study.records().trials[by_name["qlora"].trials[0]].digest
    reference = {t.seed: t.values["loss"] for t in study.records().complete if t.digest == qlora}
    for name, row in front.items():
        number = int(name.split()[-1].rstrip(")"))
        assert list(row.qualities) == [1, 2]  # seed 0 has chosen it
        assert number not in row.trials
        pairs = [row.qualities[s] - reference[s] for s in (1, 2)]
        assert row.difference is not None
        assert row.difference.mean == pytest.approx(statistics.fmean(pairs))
        size = searched.trials[number].measurement.model_bytes
        limits = [by_name[n].model_bytes for n in ("qlora", "ilp") if by_name[n].model_bytes >= size]
        # the best of all that the search has found at that size
        assert any(
            searched.trials[number].values["loss"]
            == min(t.values["loss"] for t in searched.complete if t.measurement.model_bytes <= limit)
            for limit in limits
        )
    # qlora's seeds 1 and 2, ilp's 0 and 1, and two of each point
    assert len(runner.runs) - num_runs == 2 + 2 + 2 * len(front)
    again = compared(study, runner, ComparisonSettings(("qlora", "ilp"), num_seeds=2))
    assert again == found


def test_equal_bytes(create: Create, runner: Noisy, layout: ModelLayout) -> None:
    study = create()
    budget = int(1.15 * compared(study, runner, ComparisonSettings(("qlora",))).rows[0].model_bytes)
    names = ("linear-decay", "ilp", "lora", "sensitive-8bit")
    found = compared(study, runner, ComparisonSettings(names, max_bytes=budget))
    sizes = {row.name: row.model_bytes for row in found.rows}
    # this model's widest module takes 640 bytes a rank
    assert all(budget - 640 < sizes[name] <= budget for name in ("linear-decay", "ilp", "sensitive-8bit"))
    assert sizes["lora"] > budget  # 16 bits do not fit: as it is
    with pytest.raises(PlanError, match="raise the budget or use fewer bits"):
        compared(study, runner, ComparisonSettings(names, max_bytes=1000))


def test_distilled_ranks_come_from_the_study_s_own_adalora(create: Create, runner: Noisy) -> None:
    study = create()
    found = compared(study, runner, ComparisonSettings(("adalora-distilled",), num_seeds=1))
    assert {row.name for row in found.rows} == {"qlora", "adalora-4bit", "adalora-distilled"}
    records = study.records()
    by_label = {trial.origin.name: trial for trial in records.complete}
    ranks = by_label["adalora-4bit"].measurement.ranks
    assert ranks
    # here it is the uniform plan, which has its name from qlora
    assert by_label["qlora"].plan.ranks == ranks
    select_trial(study.optuna_study, by_label["adalora-4bit"].number)
    exported = export_plan(study)
    assert exported.plan == by_label["qlora"].plan
    assert exported.origin is not None
    assert exported.origin.label == "adalora-4bit, distilled"


def test_a_plan_that_fails_has_a_line_with_the_reason(create: Create, layout: ModelLayout) -> None:
    def fails(plan: Plan, trial: Trial) -> bool:
        return plan.modules["embed"].bits == 16 and (trial.seed > 0 or plan.lora.variant == "adalora")

    runner = Noisy(layout, fails=fails)
    study = create()
    found = compared(study, runner, ComparisonSettings())
    by_name = {row.name: row for row in found.rows}
    assert (by_name["adalora"].mean, len(by_name["adalora"].failures)) == (None, 3)
    assert list(by_name["lora"].qualities) == [0]
    assert by_name["lora"].difference is not None
    assert by_name["lora"].difference.low is None
    lines = {line[0].split()[0]: line for line in cells(found)}
    assert lines["adalora"][-1] == "diverged: the loss is nan"
    assert "2 failed: diverged" in lines["lora"][-1]
    assert len(compared_points(found)) == 4
    num_runs = len(runner.runs)
    assert compared(study, runner, ComparisonSettings()) == found
    assert len(runner.runs) == num_runs


def test_a_stopped_comparison_goes_on_where_it_was(create: Create, runner: Noisy) -> None:
    study = create()
    stopped = compare(
        study,
        ComparisonSettings(),
        lambda: runner,
        lambda: Worker(study, runner, num_trials=0, max_trials=4).run(),
    )
    assert stopped is None
    assert [seed for _, seed in runner.runs] == [0, 0, 0, 0]
    compared(study, runner, ComparisonSettings())
    assert len(runner.runs) == len(set(runner.runs)) == 15


def test_paired_differences() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    one = paired_difference({0: 1.0, 1: 3.0}, {0: 0.5})
    assert one is not None
    assert (one.mean, one.low) == (0.5, None)
    same = paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5})
    assert same is not None
    assert (same.low, same.mean, same.high) == (0.5, 0.5, 0.5)
    # by hand: d = 1, 2, 3; mean 2; s = 1; t(0.975, 2) = 4.3027
    three = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert three is not None
    assert three.mean == 2.0
    assert three.high is not None
    assert three.high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-4)


def test_names_that_a_person_gives(layout: ModelLayout) -> None:
    def names(text: str | None) -> tuple[str, ...]:
        return ComparisonSettings.named(text, layout, 3, None, None).strategies

    assert names(None) == CONFIGURATIONS
    assert names("configurations, linear-decay,qlora") == (*CONFIGURATIONS, "linear-decay")
    assert "cross-attention-8bit" not in names("all")
    assert {"ilp", "adalora-distilled", "uniform"} <= set(names("all"))
    with pytest.raises(PlanError, match="did you mean 'adalora'"):
        names("adalor")


def test_formats_say_the_same(create: Create, layout: ModelLayout) -> None:
    found = compared(create(), Noisy(layout, noise=1e-4), ComparisonSettings())
    head, lines = columns(found), cells(found)
    assert {len(line) for line in lines} == {len(head)}
    by_name = {line[0].split()[0]: line for line in lines}
    (lora,) = [row for row in found.rows if row.name == "lora"]
    assert by_name["qlora"][2] == "reference"
    assert is_better(found, lora) is True
    assert by_name["lora"][2].endswith("*")

    text = markdown(found).splitlines()
    assert text[0].count("|") == len(head) + 1
    assert all(f"| {' | '.join(line)} |" in text for line in lines)

    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [row["name"] for row in rows] == [row.name for row in found.rows]
    for row, of in zip(rows, found.rows, strict=True):
        assert [float(row[f"loss_seed_{seed}"]) for seed in found.seeds] == list(of.qualities.values())
    assert Comparison.model_validate(json.loads(json_text(found))) == found


def test_the_page_has_the_table_and_its_plots_in_it(create: Create, layout: ModelLayout) -> None:
    found = compared(create(), Noisy(layout), ComparisonSettings())
    (trace,) = quality_figure(found).data
    assert list(trace.text) == [row.name for row in found.rows]
    assert list(trace.y) == [row.mean for row in found.rows]
    assert list(trace.error_y.array) == [row.standard_error for row in found.rows]
    (trace,) = difference_figure(found).data
    assert list(trace.y) == [row.name for row in found.rows if row.difference]
    ends = [row.difference.high for row in found.rows if row.difference]
    assert [x + up for x, up in zip(trace.x, trace.error_x.array, strict=True)] == pytest.approx(ends)
    html = comparison_html(found)
    assert html.count("<tr>") == len(found.rows) + 1
    assert html.count('class="plotly-graph-div"') == 2
    assert "<script src=" not in html  # nothing from the network


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "gp", "random"])
def test_a_search_goes_on_after_a_comparison(create: Create, runner: Noisy, sampler: str) -> None:
    """Most compared plans are outside of the search space: samplers must do without their parameters."""
    study = create(search={"sampler": sampler, "trials": 24})
    found = compared(study, runner, ComparisonSettings((*CONFIGURATIONS, "linear-decay")))
    assert any(not study.optuna_study.trials[row.trials[0]].params for row in found.rows)
    Worker(study, runner).run()
    records = study.records()
    assert sum(trial.searched for trial in records.complete) == 24
    assert not records.failed
