"""Counts what goes wrong along a run: steps without a finite gradient, spikes of the loss."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, stdev

from jointsearch.measurement import Stability

WINDOW = 20
SPIKE_DEVIATIONS = 4.0
DIVERGED_AFTER = 5


class StabilityTracker:
    """Told of every step of one run."""

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=WINDOW)
        self._nonfinite = self._in_a_row = self._spikes = 0
        self._largest_norm = 0.0

    def saw(self, loss: float, gradient_norm: float) -> bool:
        """Note a step; False where it is not finite and must not change the model."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            self._nonfinite += 1
            self._in_a_row += 1
            return False
        self._in_a_row = 0
        self._largest_norm = max(self._largest_norm, gradient_norm)
        if len(self._before) == WINDOW:
            self._spikes += loss > fmean(self._before) + SPIKE_DEVIATIONS * stdev(self._before)
        self._before.append(loss)
        return True

    @property
    def diverged(self) -> bool:
        """Several steps in a row were not finite: the model is lost."""
        return self._in_a_row >= DIVERGED_AFTER

    @property
    def result(self) -> Stability:
        return Stability(
            nonfinite_steps=self._nonfinite,
            largest_gradient_norm=self._largest_norm,
            loss_spikes=self._spikes,
        )
