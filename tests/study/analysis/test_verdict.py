"""Verdicts on hand-made trials, with a t-test written out from its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from optuna.trial import create_trial
from scipy.stats import t as student

from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.analysis.refine import refine
from jointsearch.study.analysis.verdict import Verdict, judge
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


def add(study: StoredStudy, name: str, size: int, losses: dict[int, float], label: str = "") -> None:
    """A plan's complete trials, one per seed, with made-up bytes."""
    for seed, loss in losses.items():
        study.optuna_study.add_trial(
            create_trial(
                values=[loss, size],
                user_attrs={
                    "plan": {"modules": {}},
                    "digest": name,
                    "label": label,
                    "seed": seed,
                    "measurement": {"metrics": {"loss": loss}, "model_bytes": size},
                },
            )
        )


@pytest.fixture
def study(create: Create) -> StoredStudy:
    return create(search_space={"enqueue": []})


def test_one_seed_decides_nothing(study: StoredStudy) -> None:
    add(study, "u", 100, {0: 2.0}, "uniform 4-bit rank 4")
    add(study, "p", 110, {0: 1.9})
    verdict = judge(study)
    (found,) = verdict.comparisons
    assert (found.point.digest, found.seeds, found.confidence, found.significant) == ("p", (), None, False)
    assert found.baseline is not None
    assert found.baseline.origin.name == "uniform 4-bit rank 4"
    assert found.gain == pytest.approx(0.1)
    assert verdict.sentence.startswith("undecided: 1 points of the front look better")
    assert "`jointsearch study refine small`" in verdict.sentence
    assert verdict.paid is None


def test_a_gain_is_paired_by_seeds_that_the_search_did_not_use(study: StoredStudy) -> None:
    """Seeds differ by far more than plans do; seed 0 chose the point and says nothing."""
    uniform = {0: 2.0, 1: 2.5, 2: 1.5, 3: 2.2}
    ahead = {0: 0.9, 1: 0.020, 2: 0.030, 3: 0.025}
    add(study, "u", 100, uniform, "uniform 8-bit rank 4")
    add(study, "worse", 90, dict.fromkeys(uniform, 3.0), "uniform 4-bit rank 4")
    add(study, "p", 110, {seed: uniform[seed] - ahead[seed] for seed in uniform})
    verdict = judge(study)
    (found,) = [entry for entry in verdict.comparisons if entry.point.digest == "p"]
    assert found.seeds == (1, 2, 3)
    assert found.gain == pytest.approx(0.025)
    # t = mean / (s / √3) with s = 0.005, two degrees of freedom, one side
    statistic = 0.025 / (0.005 / math.sqrt(3))
    assert found.confidence == pytest.approx(1 - student.sf(statistic, 2), abs=1e-9)
    assert found.significant
    assert verdict.paid is True
    assert verdict.sentence == (
        "searching has paid: 1 of 1 tested points of the front beat the best uniform plan of no more bytes; "
        f"trial {found.point.number} beats uniform 8-bit rank 4 by 0.0250 "
        f"with {found.confidence:.1%} confidence (3 further seeds)"
    )


def test_a_gain_within_noise_has_not_paid(study: StoredStudy) -> None:
    add(study, "u", 100, {0: 2.0, 1: 2.00, 2: 2.02, 3: 1.99}, "uniform 8-bit rank 8")
    add(study, "p", 110, {0: 1.8, 1: 1.97, 2: 2.05, 3: 1.98})
    verdict = judge(study)
    assert not verdict.comparisons[0].significant
    assert verdict.sentence == "searching has not paid: uniform 8-bit rank 8 is within noise"
    assert verdict.paid is False


def test_many_points_raise_the_bar(study: StoredStudy) -> None:
    """p = 0.04 is enough alone, and not as the best of ten: Benjamini and Hochberg, 0.04 · 10 / 1 > 0.05."""
    rng = np.random.default_rng(0)
    seeds = range(5)
    add(study, "u", 10, dict.fromkeys(seeds, 2.0), "uniform 8-bit rank 8")
    wanted = student.isf(0.04, 3) * 0.01 / math.sqrt(4)  # a mean of four with s = 0.01
    wiggle = np.array([0.5, -0.5, 0.5, -0.5]) * 0.01 * math.sqrt(3)
    add(study, "good", 30, {0: 1.0} | {s + 1: 2.0 - wanted - wiggle[s] for s in range(4)})
    assert judge(study).comparisons[0].confidence == pytest.approx(0.96, abs=1e-6)
    assert judge(study).comparisons[0].significant
    for number in range(9):
        noise = 0.01 * rng.standard_normal(5)
        noise[0], noise[1:] = 0.0, noise[1:] - noise[1:].mean()
        front = {seed: 2.0 - 1e-4 * (number + 1) - noise[seed] for seed in seeds}
        add(study, f"equal {number}", 11 + number, front)
    verdict = judge(study)
    assert len(verdict.comparisons) == 10
    assert not any(entry.significant for entry in verdict.comparisons)
    assert verdict.sentence.startswith("searching has not paid: uniform 8-bit rank 8")


def test_equal_differences_need_no_test(study: StoredStudy) -> None:
    add(study, "u", 100, {0: 2.0, 1: 2.5, 2: 2.25}, "uniform 8-bit rank 8")
    add(study, "p", 110, {0: 1.5, 1: 2.0, 2: 1.75})
    (found,) = judge(study).comparisons
    assert (found.gain, found.confidence, found.significant) == (0.5, 1.0, True)


def test_points_that_do_not_survive(study: StoredStudy) -> None:
    add(study, "u", 100, {0: 2.0, 1: 2.0, 2: 2.0}, "uniform 8-bit rank 8")
    add(study, "lucky", 110, {0: 1.8, 1: 2.2, 2: 2.3})  # 2.1 in the mean
    add(study, "good", 120, {0: 1.9, 1: 1.9, 2: 1.9})
    add(study, "never", 130, {0: 2.5})
    verdict = judge(study)
    assert [point.digest for point in verdict.fallen] == ["lucky"]
    assert [entry.point.digest for entry in verdict.comparisons] == ["good"]


def test_a_maximized_quality(create: Create) -> None:
    study = create(search_space={"enqueue": []}, objectives=["accuracy", "model_bytes"])
    add(study, "u", 100, {0: 0.5, 1: 0.50, 2: 0.52}, "uniform 8-bit rank 8")
    add(study, "p", 110, {0: 0.6, 1: 0.60, 2: 0.61})
    (found,) = judge(study).comparisons
    assert found.gain == pytest.approx(0.095)
    assert found.confidence is not None
    assert found.confidence > 0.95


def test_nothing_to_compare(study: StoredStudy) -> None:
    add(study, "u", 100, {0: 2.0}, "uniform 8-bit rank 8")
    add(study, "worse", 100, {0: 2.1})
    verdict = judge(study)
    assert verdict == Verdict(
        (), (), False, "searching has not paid: the front is made of uniform plans, or of none as small"
    )


def test_nothing_is_said_of_a_search_that_has_not_begun(study: StoredStudy) -> None:
    assert judge(study).paid is None
    add(study, "u", 100, {0: 2.0, 1: 2.0, 2: 2.1}, "uniform 8-bit rank 8")
    add(study, "named", 120, {0: 1.9, 1: 1.9, 2: 2.1}, "sensitive-8bit")
    verdict = judge(study)
    assert (verdict.paid, verdict.sentence) == (
        None,
        "undecided: no searched plan is measured yet (2 uniform and named ones are)",
    )
    assert [entry.point.digest for entry in verdict.comparisons] == ["named"]


@dataclass
class SeedRunner:
    """The fake runner with noise, and seeds that differ by far more than that."""

    layout: ModelLayout

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        found = FakeRunner(self.layout, noise=0.001).run(plan, trial)
        metrics = found.metrics | {"loss": found.metrics["loss"] + 0.1 * math.sin(trial.seed)}
        return found.model_copy(update={"metrics": metrics, "seed": trial.seed})


def test_refining_measures_the_front_and_its_rivals_with_further_seeds(
    create: Create, layout: ModelLayout
) -> None:
    study = create(
        search={"sampler": "additive", "trials": 14}, search_space={"bits": [4, 8, 16], "ranks": [0, 4]}
    )
    runner = SeedRunner(layout)
    Worker(study, runner).run()
    before = study.records()
    rivals = {
        max(
            (b for b in before.baselines if b.measurement.model_bytes <= point.measurement.model_bytes),
            key=lambda b: -b.values["loss"],
            default=point,
        ).digest
        for point in before.front
    }
    wanted = {point.digest for point in before.front} | rivals
    assert refine(study, 2) == 2 * len(wanted)
    assert refine(study, 2) == 0  # they wait
    Worker(study, runner).run()
    records = study.records()
    assert len(records.complete) == 14 + 2 * len(wanted)
    for point in records.measured:
        expected = [0, 1, 2] if point.digest in wanted else [0]
        assert [trial.seed for trial in point.trials] == expected
        assert [trial.measurement.seed for trial in point.trials] == expected
    names = {point.digest: point.origin.name for point in before.measured}
    assert all(point.origin.name == names[point.digest] for point in records.measured)
    tested = [entry for entry in judge(study, records).comparisons if entry.baseline is not None]
    assert any(entry.seeds == (1, 2) for entry in tested)
    refine(study, 3)  # what is left of three seeds, for the front as it is now
    assert {trial.seed for trial in study.records().waiting} >= {3}


def test_refining_needs_a_front(create: Create) -> None:
    with pytest.raises(StudyError, match="no complete trial yet"):
        refine(create(), 2)
