from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.stats import t

from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.attributes import EXPECTED
from jointsearch.study.attributes import LABEL, ORIGIN, REQUESTED, RUNG
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.early_stopping import MIN_JUDGED, MIN_TRIALS, WIDENING, Forecast, may_stop_early
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]

STEP = 3


def test_the_forecast_is_the_prediction_of_a_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 0.2, 25)
    y = 0.4 + 0.8 * x - 0.1 * x**2 + rng.normal(0.0, 0.05, 25)
    forecast = Forecast.of(x, y)
    assert forecast is not None
    # NumPy's own fit, whose covariance is scaled by the residuals over n - 3
    curve, covariance = np.polyfit(x - x.mean(), y, 2, cov=True)
    at = (np.array([3.3, 2.9]) - x.mean())[:, None] ** [2, 1, 0]
    assert forecast.mean([3.3, 2.9]) == pytest.approx(at @ curve)
    noise = np.sum((y - np.polyval(curve, x - x.mean())) ** 2) / 22
    of_curve = np.array([row @ covariance @ row for row in at])
    assert forecast.scale([3.3, 2.9]) == pytest.approx(WIDENING * np.sqrt(noise + of_curve))
    low, high = t.interval(0.9, 22, forecast.mean(3.3), forecast.scale(3.3))
    assert forecast.chance_below([low, high, np.inf], [3.3, 3.3, 3.3]) == pytest.approx([0.05, 0.95, 1.0])


def test_few_trials_foretell_nothing() -> None:
    x = np.linspace(2, 3, MIN_TRIALS)
    assert Forecast.of(x[1:], x[1:]) is None
    assert Forecast.of(np.repeat([2.0, 3.0], MIN_TRIALS), np.arange(2 * MIN_TRIALS)) is None
    exact = Forecast.of(x, 2 * x)
    assert exact is not None
    assert exact.mean(2.5) == pytest.approx(5.0)


@dataclass
class RungRunner:
    """The fake runner with a rung on the way, whose loss is the final one and a little more."""

    layout: ModelLayout
    train: float = 0.0
    """Seconds of a trial's training."""
    evaluate: float = 0.0
    """Seconds of each measurement."""
    num_steps: list[int] = field(default_factory=list)
    num_rungs: int = 0

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        found = FakeRunner(self.layout).run(plan, trial)
        self.num_steps.append(STEP)
        if not trial.rungs:
            self.num_steps[-1] = 2 * STEP
            return found
        self.num_rungs += 1
        rung = found.metrics["loss"] + 0.2 + 0.0005 * (int(plan.digest, 16) % 3)
        trial.report(STEP, rung)
        self.num_steps[-1] = 2 * STEP
        points = (LossPoint(step=STEP, loss=rung), LossPoint(step=2 * STEP, loss=found.metrics["loss"]))
        seconds = {"train": self.train, "evaluate": 2 * self.evaluate}
        return found.model_copy(update={"validation_losses": points, "seconds": seconds})


WIDE = {
    "search": {"trials": 60, "sampler": "random", "seed": 5},
    "search_space": {"bits": [4, 8, 16], "ranks": [0, 2, 4, 8]},
}


def test_dominated_trials_stop_and_the_front_is_that_without_stopping(
    create: Create, layout: ModelLayout
) -> None:
    study = create(**WIDE)
    runner = RungRunner(layout)
    Worker(study, runner).run()
    records = study.records()
    assert len(records.trials) == 60
    assert len(records.complete) + len(records.pruned) == 60
    assert len(records.pruned) >= 10
    copies = [trial for trial in records.complete if trial.copy_of is not None]
    assert sorted(runner.num_steps) == [3] * len(records.pruned) + [6] * (len(records.complete) - len(copies))
    # every plan to its end, by the fake runner itself
    finals = {t.number: FakeRunner(layout).run(t.plan, Trial()) for t in records.trials}
    points = {n: (f.metrics["loss"], f.model_bytes) for n, f in finals.items()}
    for trial in records.pruned:
        loss, size = points[trial.number]
        assert any(other[0] <= loss and other[1] <= size for n, other in points.items() if n != trial.number)
        assert trial.frozen.user_attrs[RUNG]["step"] == STEP
        assert trial.frozen.user_attrs[EXPECTED] == pytest.approx(loss, abs=0.01)
    trained, spent = len(runner.num_steps), sum(runner.num_steps)
    assert records.share_saved(2 * STEP) == pytest.approx(1 - spent / (trained * 2 * STEP))
    assert not any(trial.origin.name for trial in records.pruned)  # baselines are measured to their end
    assert records.num_left(60) == 0


def test_only_what_the_search_proposed_may_stop_early(create: Create) -> None:
    """Version 0.1.0 wrote a label where there is an origin now."""
    study = create(search={"early_stopping": True}, search_space={"enqueue": []})
    asked: list[tuple[dict[str, object], bool]] = [
        ({}, True),
        ({ORIGIN: {"kind": "search", "name": ""}}, True),
        ({LABEL: ""}, True),
        ({ORIGIN: {"kind": "strategy", "name": "ilp"}}, False),
        ({LABEL: "uniform 4-bit rank 4"}, False),
        ({REQUESTED: True}, False),
    ]
    for attributes, expected in asked:
        queue = optuna.create_study()
        queue.enqueue_trial({}, user_attrs=attributes)
        assert may_stop_early(study, queue.ask()) is expected, attributes


def test_without_early_stopping_all_go_to_their_end(create: Create, layout: ModelLayout) -> None:
    search = {**WIDE["search"], "early_stopping": False}
    study = create(**{**WIDE, "search": search})
    Worker(study, RungRunner(layout)).run()
    assert {trial.state for trial in study.records().trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize(
    ("train", "evaluate", "paid"),
    # half of the training is saved by each that stops; the rungs cost all of them a measurement
    [(10.0, 0.1, True), (10.0, 9.0, False)],
)
def test_auto_stops_trials_and_measures_at_rungs_as_long_as_that_pays(
    create: Create, layout: ModelLayout, train: float, evaluate: float, paid: bool
) -> None:
    search = {**WIDE["search"], "early_stopping": "auto"}
    study = create(**{**WIDE, "search": search})
    runner = RungRunner(layout, train, evaluate)
    Worker(study, runner).run()
    records = study.records()
    trained = [trial for trial in records.complete if trial.copy_of is None]
    with_rung = [trial for trial in trained if len(trial.measurement.validation_losses) > 1]
    assert runner.num_rungs == len(with_rung) + len(records.pruned)
    named = [trial for trial in with_rung if trial.origin.is_named]
    assert named
    if paid:
        assert len(records.pruned) >= 5
        assert runner.num_rungs == len(trained) + len(records.pruned)
    else:
        # until enough are finished to tell, and no longer
        assert runner.num_rungs == len(named) + MIN_JUDGED
