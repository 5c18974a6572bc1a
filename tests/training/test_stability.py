from __future__ import annotations

import math

import pytest

from jointsearch.training.stability import StabilityTracker

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("step", [(NAN, 1.0), (INF, 1.0), (-INF, 1.0), (1.0, NAN), (1.0, INF), (NAN, NAN)])
def test_a_step_that_is_not_finite_must_not_change_the_model(step: tuple[float, float]) -> None:
    tracker = StabilityTracker()
    assert tracker.saw(1.0, 2.0)
    assert not tracker.saw(*step)
    assert tracker.saw(1.0, 0.5)
    result = tracker.result
    assert (result.nonfinite_steps, result.largest_gradient_norm, result.loss_spikes) == (1, 2.0, 0)


def test_diverged_after_five_in_a_row() -> None:
    tracker = StabilityTracker()
    for _ in range(3):
        for _ in range(4):
            tracker.saw(NAN, 1.0)
        assert not tracker.diverged
        tracker.saw(1.0, 1.0)
    states = []
    for _ in range(6):
        tracker.saw(1.0, INF)
        states.append(tracker.diverged)
    assert states == [False, False, False, False, True, True]
    assert tracker.result.nonfinite_steps == 3 * 4 + 6


def test_nothing_seen() -> None:
    result = StabilityTracker().result
    assert (result.nonfinite_steps, result.largest_gradient_norm, result.loss_spikes) == (0, 0.0, 0)


def test_spikes_are_counted_against_the_twenty_losses_before() -> None:
    """Ten losses of 1 and ten of 3: the mean is 2, the variance (n - 1) 20 · 1 / 19."""
    limit = 2 + 4 * math.sqrt(20 / 19)  # 6.104
    for last, spikes in ((limit - 1e-6, 0), (limit + 1e-6, 1)):
        tracker = StabilityTracker()
        for loss in [1.0, 3.0] * 10:
            tracker.saw(loss, 1.0)
        tracker.saw(last, 1.0)
        assert tracker.result.loss_spikes == spikes


def test_no_spike_before_there_are_twenty_losses() -> None:
    tracker = StabilityTracker()
    for loss in [1.0] * 18 + [1000.0]:
        tracker.saw(loss, 1.0)
    assert tracker.result.loss_spikes == 0


def test_the_window_moves_and_leaves_out_steps_that_are_not_finite() -> None:
    tracker = StabilityTracker()
    for loss in [100.0] * 3 + [1.0, 1.1] * 10:  # the hundreds have left the window
        tracker.saw(loss, 1.0)
        tracker.saw(NAN, 1.0)
    # mean 1.05, deviation 0.0513: 1.2 is no spike, 1.5 is one
    tracker.saw(1.2, 1.0)
    assert tracker.result.loss_spikes == 0
    tracker.saw(1.5, 1.0)
    assert tracker.result.loss_spikes == 1
    # 1.5 is in the window now, so that 1.5 again is none: mean 1.09, deviation 0.12
    tracker.saw(1.5, 1.0)
    assert tracker.result.loss_spikes == 1


def test_any_rise_after_constant_losses_is_a_spike_and_a_fall_is_none() -> None:
    tracker = StabilityTracker()
    for loss in [2.0] * 20 + [1.0] + [2.0] * 20 + [2.5]:
        tracker.saw(loss, 1.0)
    assert tracker.result.loss_spikes == 1
