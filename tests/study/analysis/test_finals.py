"""Finals: which plans run on, for how long, and what goes by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scipy.stats import rankdata

from jointsearch.config.search import FinalsSettings
from jointsearch.front.pareto import is_on_front
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.additive.horizon import Horizon
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.samplers import build_sampler
from jointsearch.study.analysis.fidelity import fidelities
from jointsearch.study.analysis.finals import _wanted, request_finals, stages
from jointsearch.study.analysis.prediction import fit_surrogate, predict_front, trial_reader
from jointsearch.study.analysis.refine import refine
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.full_runs import select_trial
from jointsearch.study.plans import chosen_trial
from jointsearch.study.queue import requeue_failed
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]

OWN = 60
"""Steps of the small study's trials."""


class Late(FakeRunner):
    """The fake runner, which says how long it was told to train."""

    def __init__(self, layout: ModelLayout) -> None:
        super().__init__(layout)
        self.told: list[tuple[str, int, int | None]] = []

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self.told.append((plan.digest, trial.seed, trial.steps))
        return super().run(plan, trial)


@pytest.fixture
def study(create: Create) -> StoredStudy:
    return create(calibration={"steps": OWN}, search={"finals": {"times": [4, 16]}, "trials": 24})


def digests(points: Any) -> set[str]:
    return {point.digest for point in points}


def test_the_front_and_its_rivals_run_on_length_after_length(study: StoredStudy, layout: ModelLayout) -> None:
    runner = Late(layout)
    Worker(study, runner).run()
    records = study.records()
    assert records.lengths == (4 * OWN, 16 * OWN)
    assert len(records.complete) == 24
    for before, after in ((None, 240), (240, 960)):
        points = records.at(before).front
        rivals = [
            rung.number
            for entry in judge(study, records.at(before)).comparisons
            for rival in entry.rivals
            for rung in (rival.lower, rival.upper)
        ]
        expected = digests(points) | {records.trials[number].digest for number in rivals}
        assert digests(records.at(after).complete) == expected
    # each once, at the study's own seed, as long as it says
    finals = [told for told in runner.told if told[2]]
    assert len(finals) == len(set(finals)) == len(records.at(240).complete) + len(records.at(960).complete)
    assert {seed for _, seed, _ in finals} == {0}


def test_values_are_those_of_the_length(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, Late(layout)).run()
    records = study.records()
    for steps in (240, 960):
        for point in records.at(steps).measured:
            expected = FakeRunner(layout).run(point.plan, Trial(steps=steps)).metrics["loss"]
            assert point.values["loss"] == expected
    assert records.answer.steps == 960
    front = records.answer.front
    values = [[point.values["loss"], point.values["model_bytes"]] for point in records.at(960).measured]
    assert len(front) == int(is_on_front(values).sum())
    assert chosen_trial(study) in {point.number for point in front}


def test_a_half_made_final_turns_nothing_round(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, FakeRunner(layout), num_trials=23).run()  # less than the whole: no finals
    assert study.records().lengths == ()
    num = request_finals(study)
    assert num == len(study.records().waiting) > 2
    assert request_finals(study) == 0
    Worker(study, FakeRunner(layout), max_trials=2, num_trials=0).run()
    records = study.records()
    assert records.lengths == (240,)
    assert records.answer is records.at(None)
    Worker(study, FakeRunner(layout), num_trials=0).run()
    assert study.records().answer.steps == 240


def test_what_a_person_has_selected_runs_on(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, FakeRunner(layout), num_trials=23).run()
    off = next(p for p in study.records().measured if p.digest not in digests(study.records().front))
    assert off.digest not in wanted(study)
    select_trial(study.optuna_study, off.number)
    assert off.digest in wanted(study)


def wanted(study: StoredStudy) -> set[str]:
    settings = FinalsSettings(times=(4,))
    (stage,) = stages(study, settings)
    return {plan.digest for plan, _ in _wanted(study, study.records(), stage)}


@pytest.mark.parametrize("sampler", ["additive", "qr-adaptor"])
def test_the_search_sees_no_finals(create: Create, layout: ModelLayout, sampler: str) -> None:
    study = create(search={"sampler": sampler, "trials": 16})
    Worker(study, FakeRunner(layout), num_trials=10).run()
    before = proposal(study)
    assert request_finals(study, FinalsSettings(times=(4,)))
    Worker(study, FakeRunner(layout), num_trials=0).run()
    assert len(study.records().lengths) == 1
    assert proposal(study) == before


def proposal(study: StoredStudy) -> list[int]:
    sampler = build_sampler(study.config.search, study.space, study.layout, "loss")
    assert isinstance(sampler, PlanSampler)
    return sampler.propose(study.optuna_study, 1000).tolist()


def test_finals_have_no_parameters_that_optunas_samplers_could_read(
    study: StoredStudy, layout: ModelLayout
) -> None:
    Worker(study, FakeRunner(layout)).run()
    for trial, record in zip(study.optuna_study.trials, study.records().trials, strict=True):
        assert bool(trial.params) == (record.steps is None)


def test_a_final_that_failed_is_asked_for_once(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, FakeRunner(layout), num_trials=23).run()
    num = request_finals(study)

    class Plain:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            return FakeRunner(layout).run(plan, trial)

    Worker(study, Plain(), num_trials=0).run()
    failed = study.records().failed
    assert len(failed) == num
    assert {trial.failure for trial in failed} == {
        "a final needs a runner that trains for Trial.steps, not Plain"
    }
    assert request_finals(study, FinalsSettings(times=(4,))) == 0
    requeue_failed(study)
    Worker(study, FakeRunner(layout), num_trials=0).run()
    assert len(study.records().at(240).complete) == num


def test_refining_goes_on_at_the_longest_length(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, FakeRunner(layout)).run()
    assert refine(study, 2) > 0
    # first the ladder next to the front: finals bring the uniform plans of the space's own ranks alone
    near = study.records().waiting
    assert {(trial.steps, trial.seed) for trial in near} == {(960, 0)}
    assert all(trial.origin.is_named for trial in near)
    Worker(study, FakeRunner(layout)).run()
    assert refine(study, 2) > 0
    assert {(trial.steps, trial.seed) for trial in study.records().waiting} == {(960, 1), (960, 2)}


def test_fidelity_is_that_of_the_plans_that_both_have(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, FakeRunner(layout)).run()
    records = study.records()
    found = fidelities(records)
    assert [entry.steps for entry in found] == [240, 960]
    for entry in found:
        longer = {point.digest: point for point in records.at(entry.steps).measured}
        shorter = {p.digest: p for p in records.measured if p.digest in longer}
        order = sorted(shorter)
        before = [shorter[digest].values["loss"] for digest in order]
        after = [longer[digest].values["loss"] for digest in order]
        sizes = [longer[digest].values["model_bytes"] for digest in order]
        ranks = [rankdata(values) for values in (before, after)]
        mean = (len(order) + 1) / 2
        covariance = sum((a - mean) * (b - mean) for a, b in zip(*ranks, strict=True))
        spread = [sum((a - mean) ** 2 for a in rank) for rank in ranks]
        assert entry.num_plans == len(order)
        assert entry.correlation == pytest.approx(covariance / (spread[0] * spread[1]) ** 0.5)
        assert entry.low <= entry.correlation <= entry.high <= 1

        def front(losses: list[float], sizes: list[float] = sizes) -> set[int]:
            return {
                i
                for i in range(len(sizes))
                if not any(
                    losses[j] <= losses[i]
                    and sizes[j] <= sizes[i]
                    and (losses[j], sizes[j]) != (losses[i], sizes[i])
                    for j in range(len(sizes))
                )
            }

        assert entry.overlap == len(front(before) & front(after)) / len(front(before) | front(after))
        regrets = []
        for i in front(after):
            fitting = [j for j in range(len(sizes)) if sizes[j] <= sizes[i]]
            regrets.append(after[min(fitting, key=lambda j: before[j])] - after[i])
        assert entry.regret == pytest.approx(sum(regrets) / len(regrets))


def test_extreme_plans_run_for_longer_early_and_teach_the_search(create: Create, layout: ModelLayout) -> None:
    finals = {"times": [4]}
    study = create(
        calibration={"steps": OWN},
        search={"sampler": "additive", "finals": finals, "trials": 20},
        search_space={"ranks": [0, 2, 8]},
    )
    Worker(study, FakeRunner(layout), max_trials=11).run()  # after the six uniform plans
    records = study.records()
    anchors = [trial for trial in records.trials if trial.steps]
    assert {trial.origin.name for trial in anchors} == {
        f"uniform {bits}-bit rank {rank}" for bits in (4, 16) for rank in (2, 8)
    }
    assert [trial.number for trial in anchors] == [6, 7, 8, 9]
    assert records.answer is records.at(None)  # four plans are no final
    reader = trial_reader(study)
    surrogate = fit_surrogate(study, records, reader)
    trials = [trial.frozen for trial in records.trials]
    horizon = Horizon.of_trials(surrogate, reader, trials, OWN, 4 * OWN)
    # the runner's ranks are worth √4 times as much in four times the steps, and its bits the same
    bits, ranks = horizon.factors()[:, 0]
    assert ranks == pytest.approx(2.0, rel=0.15)
    assert bits == pytest.approx(1.0, rel=0.15)


def test_the_predicted_front_of_finals_is_in_their_units(study: StoredStudy, layout: ModelLayout) -> None:
    Worker(study, FakeRunner(layout)).run()
    answer = study.records().answer
    found = predict_front(study, answer)
    for point in found:
        truth = FakeRunner(layout).run(study.space.plan(point.values), Trial(steps=960)).metrics["loss"]
        assert point.low <= point.quality <= point.high
        assert point.quality == pytest.approx(truth, abs=0.15)
