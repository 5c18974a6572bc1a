from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from jointsearch.errors import StudyError
from jointsearch.search.additive.evidence import LOG_SCALES
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.predicted_front import expected_gain, predicted_front, predicted_optimum
from jointsearch.search.additive.prior import Prior
from jointsearch.search.additive.surrogate import Observations, Surrogate

MakeOptions = Callable[..., Options]
Observe = Callable[..., Observations]


@pytest.fixture
def options(make_options: MakeOptions) -> Options:
    return make_options(bits=(4, 8, 16), ranks=(0, 4, 16), exclude=("embed",))


def every_plan(options: Options) -> NDArray[np.int64]:
    return np.array(list(itertools.product(*(range(len(entry.bytes)) for entry in options.groups))))


def losses(options: Options, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    effects = np.random.default_rng(2).exponential(size=int(options.offsets[-1]))
    return np.asarray(3.0 - 0.1 * options.design(chosen) @ effects)


@pytest.fixture
def fit(options: Options, observe: Observe) -> Callable[..., Surrogate]:
    def fitted(num: int, sign: int = 1) -> Surrogate:
        plans = every_plan(options)
        chosen = plans[np.random.default_rng(0).choice(len(plans), num, replace=False)]
        return Surrogate.fit(options, observe(options, chosen, losses(options, chosen)))

    return fitted


def test_the_predicted_front_is_that_of_all_plans(options: Options, fit: Callable[..., Surrogate]) -> None:
    surrogate = fit(60)
    plans = every_plan(options)
    predicted = surrogate.link.inverse(surrogate.predict(options.design(plans))[0])
    sizes = options.model_bytes(plans)
    front = predicted_front(surrogate, 1)
    assert [point.model_bytes for point in front] == sorted({point.model_bytes for point in front})
    assert (front[0].model_bytes, front[-1].quality) == (
        sizes.min(),
        pytest.approx(predicted.min(), abs=1e-9),
    )
    for point in front:
        assert options.model_bytes(options.chosen(point.values)) == point.model_bytes
        best = predicted[sizes <= point.model_bytes].min()
        assert point.quality == pytest.approx(best, abs=1e-9)
        assert point.low <= point.quality <= point.high
        optimum = predicted_optimum(surrogate, 1, point.model_bytes)
        assert optimum.quality == pytest.approx(best, abs=1e-9)


def test_bands_hold_the_truth(options: Options, observe: Observe) -> None:
    """Truths drawn from the prior, a few random plans of each: nine bands of ten should hold."""
    plans, rng = every_plan(options), np.random.default_rng(0)
    prior, scales = Prior.of(options), np.exp(LOG_SCALES)
    held, widths = [], []
    for _ in range(10):
        effects = prior.draw(scales, rng, 1)[:, 0]
        for num in (15, 150):
            chosen = plans[rng.choice(len(plans), num, replace=False)]
            measured = options.design(chosen) @ effects + scales[5] * rng.standard_normal(num)
            front = predicted_front(Surrogate.fit(options, observe(options, chosen, measured)), 1)
            truth = options.design(np.array([options.chosen(point.values) for point in front])) @ effects
            held.append(
                np.mean([point.low <= value <= point.high for point, value in zip(front, truth, strict=True)])
            )
            widths.append(np.mean([point.high - point.low for point in front]))
    assert 0.8 < np.mean(held) < 0.99
    assert np.mean(widths[1::2]) < 0.5 * np.mean(widths[::2])


def test_a_maximized_quality_is_turned_back(options: Options, observe: Observe) -> None:
    plans = every_plan(options)
    chosen = plans[np.random.default_rng(0).choice(len(plans), 80, replace=False)]
    accuracy = 1 - losses(options, chosen) / 4
    surrogate = Surrogate.fit(options, observe(options, chosen, -accuracy))
    front = predicted_front(surrogate, -1)
    assert all(0 < point.low <= point.quality <= point.high < 1 for point in front)
    assert front[0].quality < front[-1].quality
    truth = 1 - losses(options, np.array([options.chosen(point.values) for point in front])) / 4
    assert [point.quality for point in front] == pytest.approx(truth, abs=0.005)


def test_too_small_a_budget_is_an_error(options: Options, fit: Callable[..., Surrogate]) -> None:
    smallest = int(options.model_bytes(every_plan(options)).min())
    assert predicted_optimum(fit(20), 1, smallest).model_bytes == smallest
    with pytest.raises(StudyError, match=r"a plan of the search space has at least .* but got"):
        predicted_optimum(fit(20), 1, smallest - 1)


def test_the_expected_gain_falls_as_the_front_is_found(options: Options, observe: Observe) -> None:
    plans = every_plan(options)
    rng = np.random.default_rng(7)
    few = plans[rng.choice(len(plans), 12, replace=False)]
    values = losses(options, plans)
    order = np.lexsort((values, options.model_bytes(plans)))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(values[order])[:-1]])
    exact_front = plans[order[values[order] < best_before]]
    gains = [
        expected_gain(
            Surrogate.fit(options, observe(options, chosen, losses(options, chosen))),
            10,
            np.random.default_rng(0),
        )
        for chosen in (few, np.concatenate([few, exact_front]))
    ]
    assert gains[0] > 0.05
    assert 0 <= gains[1] < 0.005  # all that can be found is there


def test_the_expected_gain_is_that_of_its_box(options: Options, observe: Observe) -> None:
    """Beyond the corner nothing counts: a box around one plan has no more than the way to its own end."""
    plans = every_plan(options)
    chosen = plans[np.random.default_rng(7).choice(len(plans), 12, replace=False)]
    observed = observe(options, chosen, losses(options, chosen))
    surrogate = Surrogate.fit(options, observed)
    whole = float(observed.values.max()), float(observed.model_bytes.max())

    def gain(corner: tuple[float, float] | None) -> float:
        return expected_gain(surrogate, 10, np.random.default_rng(0), corner)

    assert gain(whole) == pytest.approx(gain(None), rel=1e-3)
    # what is found lies below the corner: a box that reaches farther holds more of what was there already
    assert gain((whole[0] + 10 * np.ptp(observed.values), whole[1])) < 0.7 * gain(whole)
