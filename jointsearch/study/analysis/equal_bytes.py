"""Plans against rivals of equal bytes, and what pairs of measurements under the same seeds prove.

A rival of a plan with b bytes is the straight line between two plans of the ladder, of b₀ ≤ b ≤ b₁ bytes,
read at b: over the bytes or their logarithm, whichever is kinder to the rival. No gap between two rungs is a
gain.

Differences are paired by seed, and tested with Student's t on one side. A person looks after two seeds, after
three, and so on, and stops when the answer pleases. So the look after n seeds has its own share of the level,

    α_n = α · 2 (1/n - 1/(n + 1)),   n = 2, 3, …,   Σ α_n = α

(alpha spending: Lan and DeMets, Biometrika 70, 1983; the shares are this module's choice). The p-values
here are min over n of p_n / (2 (1/n - 1/(n + 1))): whoever stops at the first one below α is wrong with
probability α at the most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

MIN_SEEDS = 2


@dataclass(frozen=True, eq=False)
class Entry:
    """A measured plan, as far as verdicts need it."""

    number: int
    """The trial that measured it first."""
    name: str
    model_bytes: int
    losses: Mapping[int, float]
    """By seed; the negative of a quality that is maximized."""

    def mean(self, seeds: Iterable[int]) -> float:
        return fmean(self.losses[seed] for seed in seeds)


@dataclass(frozen=True)
class Rival:
    """What the ladder has at the bytes of a plan."""

    lower: Entry
    """Of no more bytes than the plan."""
    upper: Entry
    """Of no fewer bytes; the same as ``lower`` where one has just the plan's bytes."""
    model_bytes: int
    """The plan's."""

    @property
    def name(self) -> str:
        names = dict.fromkeys((self.lower.name, self.upper.name))
        return " to ".join(names)

    def losses(self, seeds: Sequence[int]) -> list[float]:
        """Under each of the seeds, which both plans must have."""
        share = self._share(self.upper.mean(seeds) < self.lower.mean(seeds))
        return [(1 - share) * self.lower.losses[seed] + share * self.upper.losses[seed] for seed in seeds]

    def _share(self, upper_is_better: bool) -> float:
        """Of the upper plan, at the bytes of the plan: the larger one where that is kinder."""
        low, high, at = self.lower.model_bytes, self.upper.model_bytes, self.model_bytes
        if low == high:
            return 0.0
        shares = (at - low) / (high - low), math.log(at / low) / math.log(high / low)
        return max(shares) if upper_is_better else min(shares)


def rivals_of(plan: Entry, ladder: Sequence[Entry], seeds: Sequence[int]) -> tuple[Rival, ...]:
    """The kindest pair of rungs under ``seeds``, and the nearest neighbours; none where no rung is as small,
    or none as large.

    They are chosen under other seeds than those that judge.
    """
    known = [rung for rung in ladder if all(seed in rung.losses for seed in seeds)]
    lower = [rung for rung in known if rung.model_bytes <= plan.model_bytes]
    upper = [rung for rung in known if rung.model_bytes >= plan.model_bytes]
    if not lower or not upper:
        return ()

    nearest = Rival(
        max(lower, key=lambda rung: (rung.model_bytes, -rung.mean(seeds))),
        min(upper, key=lambda rung: (rung.model_bytes, rung.mean(seeds))),
        plan.model_bytes,
    )
    # of rungs of equal bytes only the best can be an end of the kindest line
    return tuple(dict.fromkeys((_kindest(_best(lower, seeds), _best(upper, seeds), plan, seeds), nearest)))


def _kindest(lower: list[Entry], upper: list[Entry], plan: Entry, seeds: Sequence[int]) -> Rival:
    """Of all pairs at once (a ladder of a hundred rungs has thousands): ``Rival.losses``, in arrays."""
    start, end = (np.array([[rung.mean(seeds) for rung in rungs]]) for rungs in (lower, upper))
    low, high = (np.array([[float(rung.model_bytes) for rung in rungs]]) for rungs in (lower, upper))
    at = float(plan.model_bytes)
    lines = []
    for along, whole in ((at - low.T, high - low.T), (np.log(at / low.T), np.log(high / low.T))):
        share = np.divide(along, whole, out=np.zeros_like(whole), where=whole > 0)
        lines.append((1 - share) * start.T + share * end)  # (lower, upper)
    best = np.unravel_index(np.argmin(np.minimum(*lines)), lines[0].shape)
    return Rival(lower[best[0]], upper[best[1]], plan.model_bytes)


def _best(rungs: Sequence[Entry], seeds: Sequence[int]) -> list[Entry]:
    """The best one of each size."""
    found: dict[int, Entry] = {}
    for rung in rungs:
        other = found.get(rung.model_bytes)
        if other is None or rung.mean(seeds) < other.mean(seeds):
            found[rung.model_bytes] = rung
    return list(found.values())


def sequential_p(differences: Sequence[float]) -> float | None:
    """That their mean is not above zero, however often one has looked; None below two of them.

    ``differences`` are in the order in which they came.
    """
    if len(differences) < MIN_SEEDS:
        return None
    looks = (
        one_sided_p(differences[:n]) / (2 * (1 / n - 1 / (n + 1)))
        for n in range(MIN_SEEDS, len(differences) + 1)
    )
    return min(1.0, *looks)


def one_sided_p(differences: Sequence[float]) -> float:
    """Student's test that the mean is not above zero."""
    values = np.asarray(differences, dtype=float)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():  # the test divides by their spread
        return 0.0 if values[0] > 0 else 1.0
    from scipy.special import stdtr  # half a second less than scipy.stats

    statistic = values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))
    return float(stdtr(len(values) - 1, -statistic))


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of the hypotheses are rejected, so that one is wrongly with probability ``level`` at the most.

    Holm, Scand. J. Statistics 6, 1979; whatever the tests have in common.
    """
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    for rank, position in enumerate(order):
        if p_values[position] * (len(p_values) - rank) > level:
            break
        rejected[position] = True
    return rejected
