"""The prior of the surrogate's effects: three Gaussian levels (see ``surrogate``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointsearch.search.additive.options import Options, format_curve, rank_curve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BITS, RANK, INTERACTION = range(3)
TOTAL = 2.0
"""Expected effect of all bits, and of all ranks, in standard deviations of the trials."""
SMALLEST_STEP = 0.1
"""Of an axis: the prior never takes a step for nothing."""
NUM_SCALES = 5
"""Scales of the levels: κ of bits, κ of ranks, η of bits, η of ranks, both of interactions."""


@dataclass(frozen=True)
class Prior:
    """The three levels over the P features."""

    axis: Ints
    """(P,): BITS, RANK or INTERACTION."""
    size: Floats
    """(P,): s_f"""
    sharing: Floats
    """(P, num_shared): which shared effect each feature has, times its size."""
    shared_axis: Ints
    """(num_shared,)"""
    directions: Floats
    """(P, num_directions): d"""
    means: Floats
    variances: Floats
    """(num_directions,): of γ"""

    @classmethod
    def of(cls, options: Options, scores: Floats | None = None) -> Prior:
        """``scores``: (P, k), effects that a probe has found, in any unit."""
        axes: list[int] = []
        sizes: list[float] = []
        shared: list[int] = []
        numbers: dict[object, int] = {}
        for entry in options.groups:
            steps = (format_curve(entry.group.formats), rank_curve(entry.group.ranks))
            interaction = np.ones(int(entry.has_interaction))
            for number, curve in enumerate((*steps, interaction)):
                for step, share in enumerate(curve):
                    axes.append(number)
                    sizes.append(float(share))
                    shared.append(numbers.setdefault((entry.kind, number, step), len(numbers)))
        axis, shares = np.array(axes, dtype=np.int64), np.array(sizes)
        directions = np.zeros((len(axis), 3))
        directions[np.arange(len(axis)), axis] = shares / len(options.groups)
        size = TOTAL / len(options.groups) * np.maximum(shares, SMALLEST_STEP)
        sharing = np.zeros((len(axis), len(numbers)))
        sharing[np.arange(len(axis)), shared] = size
        shared_axis = np.zeros(len(numbers), dtype=np.int64)
        shared_axis[shared] = axis
        means, variances = np.array([-TOTAL, -TOTAL, 0.0]), np.array([TOTAL**2, TOTAL**2, 1.0])
        if scores is not None:
            spread = _spread(options, scores)
            used = scores[:, spread > 0] / spread[spread > 0]
            directions = np.concatenate([directions, used], axis=1)
            means = np.concatenate([np.zeros(3), np.ones(used.shape[1])])
            variances = np.concatenate([variances, np.ones(used.shape[1])])
        return cls(axis, size, sharing, shared_axis, directions, means, variances)

    @property
    def mean(self) -> Floats:
        """(P,): of θ"""
        mean: Floats = self.directions @ self.means
        return mean

    def component(self, design: Floats, which: int) -> Floats:
        """Prior covariance of the rows of ``design`` at a unit of scale ``which``."""
        if which == NUM_SCALES - 1:
            own = design[:, self.axis == INTERACTION] * self.size[self.axis == INTERACTION]
            kind = design @ self.sharing[:, self.shared_axis == INTERACTION]
            return np.asarray(own @ own.T + kind @ kind.T)
        axis = which % 2
        if which < 2:
            rows = design @ self.sharing[:, self.shared_axis == axis]
        else:
            rows = design[:, self.axis == axis] * self.size[self.axis == axis]
        return np.asarray(rows @ rows.T)

    def fixed(self, design: Floats) -> Floats:
        """Prior covariance that the directions give to the rows of ``design``."""
        rows = (design @ self.directions) * np.sqrt(self.variances)
        return np.asarray(rows @ rows.T)

    def deviations(self, scales: Floats) -> tuple[Floats, Floats]:
        """Standard deviations of η s, (P,), and of κ, (num_shared,)."""
        own = np.array([scales[2], scales[3], scales[4]])[self.axis] * self.size
        return own, np.array([scales[0], scales[1], scales[4]])[self.shared_axis]

    def covariance(self, design: Floats, scales: Floats) -> Floats:
        """C: (P, num_rows), of θ with the rows of ``design``."""
        own, shared = self.deviations(scales)
        result: Floats = (own**2)[:, None] * design.T
        result += self.sharing @ ((shared**2)[:, None] * (design @ self.sharing).T)
        result += self.directions @ (self.variances[:, None] * (design @ self.directions).T)
        return result

    def draw(self, scales: Floats, rng: np.random.Generator, num: int) -> Floats:
        """(P, num): θ from the prior."""
        own, shared = self.deviations(scales)
        gamma = self.means[:, None] + np.sqrt(self.variances)[:, None] * rng.standard_normal(
            (len(self.means), num)
        )
        kappa = shared[:, None] * rng.standard_normal((len(shared), num))
        eta = own[:, None] * rng.standard_normal((len(own), num))
        return np.asarray(self.directions @ gamma + self.sharing @ kappa + eta)


def _spread(options: Options, effects: Floats) -> Floats:
    """Standard deviation over plans drawn uniformly, (k,), of what ``effects``, (P, k), say."""
    variance = np.zeros(effects.shape[1])
    for entry, start, stop in zip(options.groups, options.offsets[:-1], options.offsets[1:], strict=True):
        variance += (entry.features @ effects[start:stop]).var(axis=0)
    return np.sqrt(variance)
