"""A study's own fidelity: how well its trials have foretold its finals, on the plans that both have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointsearch.front.objectives import OBJECTIVES, format_value
from jointsearch.front.pareto import is_on_front
from jointsearch.study.records import StudyRecords

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
NUM_DRAWS = 2000
MIN_PLANS = 4
"""Fewer have no rank correlation worth a number."""
GOOD = 0.9
"""A rank correlation below it is worth a warning."""


@dataclass(frozen=True)
class Fidelity:
    """What trials of one length say of longer ones."""

    steps: int
    """Of the longer ones."""
    quality: str
    num_plans: int
    correlation: float
    """Spearman's, of the qualities."""
    low: float
    """Of its interval, by a bootstrap over the plans (Efron, 1979)."""
    high: float
    overlap: float
    """Of the plans on either front, the share that is on both."""
    regret: float
    """What is lost in the longer trials, in the mean over their front, by who takes at its bytes what the
    shorter ones call best."""

    @property
    def sentence(self) -> str:
        """One line for a person."""
        found = (
            f"trials foretell finals of {self.steps} steps with a rank correlation of {self.correlation:.2f} "
            f"({self.low:.2f} to {self.high:.2f}, {self.num_plans} plans); of the points of either front "
            f"{self.overlap:.0%} are on both; choosing by trials costs "
            f"{format_value(self.quality, self.regret)} in {self.quality}"
        )
        if self.correlation >= GOOD:
            return found
        return f"{found}; raise calibration.steps, or choose among the finals alone"


def fidelity(records: StudyRecords, steps: int) -> Fidelity | None:
    """Of the search's trials for finals of so many steps; None where too few plans have both."""
    short = {point.digest: point for point in records.at(None).measured}
    pairs = [(short[long.digest], long) for long in records.at(steps).measured if long.digest in short]
    if len(pairs) < MIN_PLANS:
        return None
    quality = records.objectives[0]
    sign = OBJECTIVES[quality].sign
    before, after = (
        np.array([sign * point.values[quality] for point in points]) for points in zip(*pairs, strict=True)
    )
    sizes = np.array([point.measurement.model_bytes for _, point in pairs], dtype=float)
    correlation, low, high = _correlation(before, after)
    fronts = [set(np.flatnonzero(is_on_front(np.stack([loss, sizes], axis=1)))) for loss in (before, after)]
    return Fidelity(
        steps=steps,
        quality=quality,
        num_plans=len(pairs),
        correlation=correlation,
        low=low,
        high=high,
        overlap=len(fronts[0] & fronts[1]) / len(fronts[0] | fronts[1]),
        regret=float(np.mean([_regret(before, after, sizes, int(point)) for point in sorted(fronts[1])])),
    )


def fidelities(records: StudyRecords) -> list[Fidelity]:
    """Of every length that has finals, rising."""
    found = (fidelity(records, steps) for steps in records.lengths)
    return [entry for entry in found if entry is not None]


def _regret(before: Floats, after: Floats, sizes: Floats, point: int) -> float:
    """What the plan of no more bytes that ``before`` calls best loses ``after``."""
    fitting = np.flatnonzero(sizes <= sizes[point])
    return float(after[fitting[np.argmin(before[fitting])]] - after[point])


def _correlation(before: Floats, after: Floats) -> tuple[float, float, float]:
    """Spearman's, and the ends of its interval; NaN where all plans are equally good."""
    from scipy.stats import rankdata  # it takes SciPy a while

    num = len(before)
    drawn = np.random.default_rng(0).integers(num, size=(NUM_DRAWS, num))
    chosen = np.concatenate([np.arange(num)[None], drawn])  # all plans themselves, then the draws
    ranks = [rankdata(losses[chosen], axis=1) - (num + 1) / 2 for losses in (before, after)]
    spread = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    found = np.full(len(chosen), math.nan)
    np.divide((ranks[0] * ranks[1]).sum(axis=1), spread, out=found, where=spread > 0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(found[1:], [tail, 1 - tail])
    return float(found[0]), float(low), float(high)
