"""Verdicts on hand-made trials, by counting; whole studies against the ladder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from optuna.trial import create_trial
from scipy.stats import t as student

from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.analysis.ladder import ladder, neighbours
from jointsearch.study.analysis.refine import refine
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


def add(
    study: StoredStudy,
    name: str,
    size: int,
    losses: dict[int, float],
    label: str = "",
    *,
    rank: int = 4,
    lora: LoraSettings | None = None,
) -> None:
    """A plan's complete trials, one per seed, with made-up bytes."""
    modules = {"m": {"format": "nf4", "rank": rank}}
    adapters = (lora or study.space.lora).model_dump(mode="json")
    for seed, loss in losses.items():
        study.optuna_study.add_trial(
            create_trial(
                values=[loss, size],
                user_attrs={
                    "plan": {"modules": modules, "lora": adapters},
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


@pytest.fixture
def two_rungs(study: StoredStudy) -> StoredStudy:
    """Uniform plans of 100 and 400 bytes under three seeds, which differ by far more than plans do."""
    add(study, "u", 100, {0: 2.0, 1: 2.5, 2: 1.5, 3: 2.2}, "uniform 4-bit rank 4")
    add(study, "v", 400, {0: 1.8, 1: 2.3, 2: 1.3, 3: 2.0}, "uniform 8-bit rank 4")
    return study


def test_one_seed_decides_nothing(two_rungs: StoredStudy) -> None:
    add(two_rungs, "p", 200, {0: 1.85})
    verdict = judge(two_rungs)
    (found,) = verdict.comparisons
    assert (found.seeds, found.p_value, found.significant) == ((), None, False)
    assert (found.differences, found.half_width) == ((), None)
    assert found.rival == "uniform 4-bit rank 4 to uniform 8-bit rank 4"
    # at 200 bytes the line over the bytes gives 2 - 0.2/3; that over their logarithm, 2 - 0.2/2, is kinder
    assert found.gain == pytest.approx(1.9 - 1.85)
    assert verdict.sentence.startswith(
        "undecided: 1 of 1 points of the front look better than plans of equal"
    )
    assert "`jointsearch study refine small`" in verdict.sentence
    assert verdict.paid is None


def test_a_gain_is_paired_by_seeds_that_the_search_did_not_use(two_rungs: StoredStudy) -> None:
    ahead = {0: 0.9, 1: 0.0199, 2: 0.0201, 3: 0.0200}
    line = {0: 1.9, 1: 2.4, 2: 1.4, 3: 2.1}
    add(two_rungs, "p", 200, {seed: line[seed] - ahead[seed] for seed in line})
    verdict = judge(two_rungs)
    (found,) = verdict.comparisons
    assert found.seeds == (1, 2, 3)
    assert found.gain == pytest.approx(0.02)
    assert found.differences == pytest.approx((0.0199, 0.0201, 0.0200))
    assert found.half_width == pytest.approx(student.ppf(0.975, 2) * 0.0001 / math.sqrt(3), rel=1e-6)
    assert verdict.mean_gain == pytest.approx(0.02)
    # two seeds: t = 0.02 / (s / √2), s = 0.0002 / √2; three: s = 0.0001; each with its share of the level
    first = student.sf(0.02 / (0.0002 / 2), 1) / (2 * (1 / 2 - 1 / 3))
    second = student.sf(0.02 / (0.0001 / math.sqrt(3)), 2) / (2 * (1 / 3 - 1 / 4))
    assert found.p_value == pytest.approx(min(first, second), rel=1e-6)
    assert verdict.p_value == pytest.approx(found.p_value)
    assert found.significant
    assert verdict.paid is True
    assert verdict.gains == (found.gain,)
    assert verdict.sentence.startswith(
        "searching has paid: at equal bytes the front's loss is 0.0200 better in the mean than that of plans "
        f"that need no search (p = {verdict.p_value:.2g}, 3 further seeds)"
    )


def test_a_gap_between_rungs_is_no_gain(two_rungs: StoredStudy) -> None:
    """On the line, and better than the best uniform plan of no more bytes by 0.1."""
    wiggle = {0: 0.001, 1: 0.001, 2: -0.001, 3: -0.0005}
    line = {0: 1.9, 1: 2.4, 2: 1.4, 3: 2.1}
    add(two_rungs, "p", 200, {seed: line[seed] - wiggle[seed] for seed in line})
    verdict = judge(two_rungs)
    assert verdict.paid is False
    assert not verdict.comparisons[0].significant
    assert verdict.sentence.startswith("searching has not paid: at equal bytes the front's loss is")


def test_plans_without_adapters_and_other_methods_are_no_rivals(two_rungs: StoredStudy) -> None:
    add(two_rungs, "p", 200, {0: 1.85})
    expected = judge(two_rungs)
    add(two_rungs, "untrained", 150, {0: 1.86}, "uniform 4-bit rank 0", rank=0)
    add(two_rungs, "adalora", 160, {0: 1.86}, "adalora", lora=LoraSettings(variant="adalora"))
    found = judge(two_rungs)
    assert found.sentence == expected.sentence
    assert found.comparisons[0].gain == expected.comparisons[0].gain
    add(two_rungs, "rule", 199, {0: 1.86}, "sensitive-8bit")
    assert "sensitive-8bit" in judge(two_rungs).comparisons[0].rival


def test_the_kinder_of_two_rivals_counts(two_rungs: StoredStudy) -> None:
    """Under the search's seed another pair is the kindest; under further ones the nearest neighbours are."""
    add(two_rungs, "n", 190, {0: 1.95, 1: 2.30, 2: 1.30, 3: 2.0}, "feed-forward only 4-bit rank 4")
    add(two_rungs, "p", 200, {0: 1.80, 1: 2.35, 2: 1.35, 3: 2.05})
    (found,) = judge(two_rungs).comparisons
    assert len(found.rivals) == 2
    assert found.gain == pytest.approx(-0.05)


def test_rivals_need_the_first_seed_of_a_search_that_repeats_plans(create: Create) -> None:
    """``refine`` has the ladder measured under that one alone."""
    study = create(search_space={"enqueue": []}, search={"repeats": 2})
    add(study, "u", 100, {0: 2.0}, "uniform 4-bit rank 4")
    add(study, "v", 400, {0: 1.8}, "uniform 8-bit rank 4")
    add(study, "p", 200, {0: 1.85, 1: 1.75})
    (found,) = judge(study).comparisons
    assert found.gain == pytest.approx(1.9 - 1.85)


def test_many_points_raise_the_bar(study: StoredStudy) -> None:
    """Holm: what is beyond doubt alone may not be so beside others."""
    seeds = range(1, 4)
    for size, name in ((10, "u"), (1000, "v")):
        add(study, name, size, {0: 3.0} | dict.fromkeys(seeds, 2.0), f"uniform {name}")
    add(study, "clear", 20, {0: 2.9, 1: 1.9, 2: 1.9001, 3: 1.8999})
    add(study, "weak", 30, {0: 2.8, 1: 1.99, 2: 1.98, 3: 1.993})
    clear, weak = judge(study).comparisons
    assert clear.significant and clear.p_value is not None and clear.p_value < 0.025
    assert weak.p_value is not None and weak.p_value > 0.05
    assert not weak.significant


def test_points_that_do_not_survive(two_rungs: StoredStudy) -> None:
    """They were chosen, so they are judged."""
    add(two_rungs, "lucky", 150, {0: 1.8, 1: 2.6, 2: 1.6, 3: 2.3})
    add(two_rungs, "good", 160, {0: 1.7, 1: 2.3, 2: 1.3, 3: 2.0})
    verdict = judge(two_rungs)
    assert [point.digest for point in verdict.fallen] == ["lucky"]
    assert len(verdict.comparisons) == 2
    assert min(verdict.gains) < 0 < max(verdict.gains)


def test_a_maximized_quality(create: Create) -> None:
    study = create(search_space={"enqueue": []}, objectives=["accuracy", "model_bytes"])
    add(study, "u", 100, {0: 0.5, 1: 0.50, 2: 0.52}, "uniform 4-bit rank 8")
    add(study, "v", 200, {0: 0.5, 1: 0.50, 2: 0.52}, "uniform 8-bit rank 8")
    add(study, "p", 110, {0: 0.6, 1: 0.60, 2: 0.61})
    (found,) = judge(study).comparisons
    assert found.gain == pytest.approx(0.095)


def test_nothing_to_compare(study: StoredStudy) -> None:
    add(study, "u", 100, {0: 2.0}, "uniform 8-bit rank 8")
    add(study, "worse", 100, {0: 2.1})
    verdict = judge(study)
    assert (verdict.paid, verdict.sentence) == (
        False,
        "searching has not paid: the front is made of plans that need no search",
    )
    add(study, "alone", 120, {0: 1.9})
    assert judge(study).paid is None
    assert "on both sides" in judge(study).sentence


def test_nothing_is_said_of_a_search_that_has_not_begun(study: StoredStudy) -> None:
    assert judge(study).paid is None
    add(study, "u", 100, {0: 2.0, 1: 2.0, 2: 2.1}, "uniform 8-bit rank 8")
    add(study, "named", 120, {0: 1.9, 1: 1.9, 2: 2.1}, "sensitive-8bit")
    verdict = judge(study)
    assert (verdict.paid, verdict.sentence, verdict.comparisons) == (
        None,
        "undecided: no searched plan is measured yet (2 uniform and named ones are)",
        (),
    )


@dataclass
class SeedRunner:
    """The fake runner with noise, and seeds that differ by far more than that."""

    layout: ModelLayout

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        found = FakeRunner(self.layout, noise=0.001).run(plan, trial)
        metrics = found.metrics | {"loss": found.metrics["loss"] + 0.1 * math.sin(trial.seed)}
        return found.model_copy(update={"metrics": metrics, "seed": trial.seed})


def test_refining_measures_rivals_first_and_then_all_with_further_seeds(
    create: Create, layout: ModelLayout
) -> None:
    study = create(
        search={"sampler": "additive", "trials": 14}, search_space={"bits": [4, 8, 16], "ranks": [0, 4]}
    )
    runner = SeedRunner(layout)
    Worker(study, runner).run()
    before = study.records()
    rungs = ladder(study.space, layout)
    searched = [point for point in before.front if not point.origin.is_named and point.plan.ranks]
    near = {rung.plan.digest for p in searched for rung in neighbours(rungs, p.measurement.model_bytes)}
    missing = near - {point.digest for point in before.measured}
    assert missing
    assert refine(study, 2) == len(missing)
    assert {(t.digest, t.seed) for t in study.records().waiting} == {(digest, 0) for digest in missing}
    Worker(study, runner).run()
    while refine(study, 2):  # a rung may take a point off the front, which brings another to it
        Worker(study, runner).run()
    verdict = judge(study)
    assert verdict.paid is not None
    assert verdict.comparisons
    measured = {point.number: point for point in study.records().measured}
    for entry in verdict.comparisons:
        assert entry.seeds == (1, 2)
        assert [trial.seed for trial in measured[entry.trial].trials] == [0, 1, 2]
        assert [trial.measurement.seed for trial in measured[entry.trial].trials] == [0, 1, 2]
    assert refine(study, 2) == 0
    assert refine(study, 3) > 0  # what is left of three seeds
    assert {trial.seed for trial in study.records().waiting} == {3}


def test_refining_needs_a_front(create: Create) -> None:
    with pytest.raises(StudyError, match="no complete trial yet"):
        refine(create(), 2)
