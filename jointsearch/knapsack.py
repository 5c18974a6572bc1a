"""The best plan at a byte budget, exactly: a multiple-choice knapsack.

    minimize Σ_g value_g(x_g)  subject to  Σ_g bytes_g(x_g) ≤ budget,   one option x_g per group g

Solved by Lagrangian relaxation, reduction, and dynamic programming over Pareto-optimal partial sums
(Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapter 11; Pisinger, EJOR 83, 1995). For a
price λ ≥ 0 per byte

    L(λ) = Σ_g min_o (value_o + λ bytes_o) − λ budget

bounds every solution from below. A solution's value is at least L(λ) plus the reduced costs
r_o = value_o + λ bytes_o − min (value + λ bytes) of its options, so that options, and partial sums, whose
reduced costs exceed U − L(λ) are in no better solution than one of value U. Few are left where there
are many groups, because the bound is nearly tight there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jointsearch.errors import StudyError
from jointsearch.front.objectives import format_bytes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BISECTIONS = 60
DOUBLINGS, HALVINGS = 20, 12
TOLERANCE = 1e-12
"""Of the values' scale: what sums of floats may differ by."""


@dataclass(frozen=True)
class Knapsack:
    """Options of groups; lower values are better.

    Both arrays are (num_groups, max_options); a group with fewer options is filled up with values of inf.
    """

    bytes: Ints
    values: Floats
    max_bytes: int | None = None
    """No plan has more, whatever the budget."""
    other: tuple[Ints, int] | None = None
    """A second size, shaped as ``bytes``, and what a plan's must not exceed."""

    @classmethod
    def of(cls, sizes: Sequence[Ints], values: Sequence[Floats]) -> Knapsack:
        """From one array per group."""
        shape = len(sizes), max(len(options) for options in sizes)
        padded_bytes, padded_values = np.zeros(shape, dtype=np.int64), np.full(shape, np.inf)
        for group, (group_bytes, group_values) in enumerate(zip(sizes, values, strict=True)):
            padded_bytes[group, : len(group_bytes)] = group_bytes
            padded_values[group, : len(group_values)] = group_values
        return cls(padded_bytes, padded_values)

    def at_most(self, max_bytes: int) -> Knapsack:
        """The same choice among plans of at most so many bytes."""
        return replace(self, max_bytes=max_bytes)

    def also_within(self, sizes: Sequence[Ints], limit: int) -> Knapsack:
        """The same choice among plans whose other sizes, one array per group, add up to at most ``limit``."""
        padded = np.zeros(self.bytes.shape, dtype=np.int64)
        for group, each in enumerate(sizes):
            padded[group, : len(each)] = each
        return replace(self, other=(padded, limit))

    @property
    def min_bytes(self) -> int:
        return int(self._possible_bytes.min(axis=1).sum())

    @property
    def max_useful_bytes(self) -> int:
        """Bytes of the best plan of all: a larger budget changes nothing."""
        best = self.total_bytes(self._cheapest(0.0))
        return self.total_bytes(self.solve(best)) if self._is_limited else best

    @property
    def _is_limited(self) -> bool:
        return self.max_bytes is not None or self.other is not None

    def total_bytes(self, chosen: Ints) -> int:
        return int(self.bytes[np.arange(len(chosen)), chosen].sum())

    def total_value(self, chosen: Ints) -> float:
        return float(self.values[np.arange(len(chosen)), chosen].sum())

    def solve(self, budget: int) -> Ints:
        """The option of every group, (num_groups,), of the least value within ``budget`` bytes.

        Of equal values the smaller plan is taken. Raises ``StudyError`` where no plan fits.
        """
        if self._is_limited:
            plain = replace(self, max_bytes=None, other=None)
            budget = budget if self.max_bytes is None else min(budget, self.max_bytes)
            return plain.solve(budget) if self.other is None else plain._within(*self.other, budget)
        if budget < self.min_bytes:
            raise StudyError(
                f"a plan of the search space has at least {format_bytes(self.min_bytes)} in its groups, "
                f"but the budget leaves them {format_bytes(budget)}; allow more bytes"
            )
        price = self._price(budget)
        if price == 0.0:
            return self._cheapest(0.0)
        known = self._filled(self._cheapest(price), budget)
        priced = self.values + price * self.bytes
        reduced = priced - priced.min(axis=1, keepdims=True)
        upper = self.total_value(known)
        lower = float(priced.min(axis=1).sum()) - price * budget
        scale = float(np.abs(np.where(np.isfinite(self.values), self.values, 0.0)).max(axis=1).sum())
        gap = max(upper - lower, 0.0) + TOLERANCE * scale
        return self._search(reduced, gap, budget)

    def front(self) -> tuple[Ints, Floats]:
        """Bytes and values of every Pareto-optimal plan, by rising bytes; for small problems."""
        sizes, values = np.zeros(1, dtype=np.int64), np.zeros(1)
        for group_bytes, group_values in zip(self.bytes, self.values, strict=True):
            real = np.isfinite(group_values)
            sizes = (sizes[:, None] + group_bytes[real]).ravel()
            values = (values[:, None] + group_values[real]).ravel()
            kept = undominated(sizes, values)
            sizes, values = sizes[kept], values[kept]
        return sizes, values

    def _within(self, sizes: Ints, limit: int, budget: int) -> Ints:
        """By Lagrangian relaxation of the second limit: the least price on its size at which the best plan
        keeps it. That plan is the best of those of its size. Where none keeps it, the leanest is given."""
        groups = np.arange(len(self.bytes))

        def at(price: float) -> Ints:
            return replace(self, values=self.values + price * sizes).solve(budget)

        chosen = at(0.0)
        if sizes[groups, chosen].sum() <= limit:
            return chosen
        finite = self.values[np.isfinite(self.values)]
        low, high = 0.0, float(np.ptp(finite)) / max(int(np.ptp(sizes)), 1) + np.finfo(float).tiny
        for _ in range(DOUBLINGS):
            chosen = at(high)
            if sizes[groups, chosen].sum() <= limit:
                break
            low, high = high, 4 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = at(middle)
            if sizes[groups, found].sum() <= limit:
                chosen, high = found, middle
            else:
                low = middle
        return chosen

    def _search(self, reduced: Floats, gap: float, budget: int) -> Ints:
        """Dynamic programming over the options whose reduced cost is at most ``gap``."""
        chosen = reduced.argmin(axis=1)
        num_left = (reduced <= gap).sum(axis=1)
        fixed = num_left == 1
        sizes = np.array([self.bytes[fixed, chosen[fixed]].sum()], dtype=np.int64)
        values = np.array([self.values[fixed, chosen[fixed]].sum()])
        costs = np.zeros(1)
        open_groups = np.flatnonzero(~fixed)
        # what differs most comes first: it leaves the fewest partial sums
        spread = np.where(reduced <= gap, reduced, 0.0).max(axis=1)
        open_groups = open_groups[np.argsort(-spread[open_groups], kind="stable")]
        least = np.where(reduced <= gap, self.bytes, np.iinfo(np.int64).max).min(axis=1)
        rest = np.append(np.cumsum(least[open_groups][::-1])[::-1], 0)
        steps: list[tuple[int, Ints, Ints]] = []
        for position, group in enumerate(open_groups):
            options = np.flatnonzero(reduced[group] <= gap)
            new_sizes = (sizes[:, None] + self.bytes[group, options]).ravel()
            new_values = (values[:, None] + self.values[group, options]).ravel()
            new_costs = (costs[:, None] + reduced[group, options]).ravel()
            possible = np.flatnonzero((new_costs <= gap) & (new_sizes + rest[position + 1] <= budget))
            kept = possible[undominated(new_sizes[possible], new_values[possible])]
            parents, picks = np.divmod(kept, len(options))
            steps.append((int(group), parents, options[picks]))
            sizes, values, costs = new_sizes[kept], new_values[kept], new_costs[kept]
        state = int(np.lexsort((sizes, values))[0])
        for step, parents, picks in reversed(steps):
            chosen[step], state = picks[state], int(parents[state])
        return np.asarray(chosen)

    @property
    def _possible_bytes(self) -> Ints:
        return np.where(np.isfinite(self.values), self.bytes, np.iinfo(np.int64).max)

    def _cheapest(self, price: float) -> Ints:
        """The best option of every group at a price per byte; of equal ones the smallest."""
        priced = self.values + price * self.bytes
        equal = priced == priced.min(axis=1, keepdims=True)
        return np.asarray(np.where(equal, self.bytes, np.iinfo(np.int64).max).argmin(axis=1))

    def _price(self, budget: int) -> float:
        """The least price at which the cheapest plan fits: nearly the one of the largest L."""
        if self.max_useful_bytes <= budget:
            return 0.0
        finite = self.values[np.isfinite(self.values)]
        low, high = 0.0, float(np.ptp(finite)) / max(int(np.ptp(self.bytes)), 1) + np.finfo(float).tiny
        while self.total_bytes(self._cheapest(high)) > budget:
            low, high = high, high * 8
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.total_bytes(self._cheapest(middle)) > budget:
                low = middle
            else:
                high = middle
        return high

    def _filled(self, chosen: Ints, budget: int) -> Ints:
        """A plan that fits, with the room that is left spent by the best single steps."""
        chosen = chosen.copy()
        groups = np.arange(len(chosen))
        while True:
            room = budget - self.total_bytes(chosen)
            more = self.bytes - self.bytes[groups, chosen][:, None]
            gain = np.where(more <= room, self.values[groups, chosen][:, None] - self.values, 0.0)
            group, option = np.unravel_index(int(gain.argmax()), gain.shape)
            if gain[group, option] <= 0:
                return chosen
            chosen[group] = option


def undominated(sizes: Ints, values: Floats) -> Ints:
    """Positions of the Pareto-optimal pairs, by rising size; of equal pairs one."""
    order = np.lexsort((values, sizes))
    ordered = values[order]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(ordered)[:-1]])
    return order[ordered < best_before]
