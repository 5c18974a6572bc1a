"""Where along the front proposals are made: byte budgets, and plans near a known one."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from jointsearch.knapsack import Knapsack
from jointsearch.search.additive.observed import key_of
from jointsearch.search.additive.surrogate import Surrogate

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_BUDGETS = 16
"""Budgets at which the front of a draw is solved, to lay out the sequence along it."""

MAX_PLANS_TRIED = 200


def sizes_and_values(surrogate: Surrogate, effects: Floats) -> Knapsack:
    """The knapsack of one vector of effects; its bytes are those of the groups alone."""
    sizes = [entry.bytes for entry in surrogate.options.groups]
    return Knapsack.of(sizes, surrogate.option_values(effects))


def even_budgets(knapsack: Knapsack, num: int) -> Floats:
    """Budgets, (num,), that lie evenly along the front, both of its axes scaled to [0, 1]."""
    budgets = np.linspace(knapsack.min_bytes, knapsack.max_useful_bytes, num)
    solved = [knapsack.solve(int(budget)) for budget in budgets]
    values = np.array([knapsack.total_value(chosen) for chosen in solved])
    if np.ptp(budgets) == 0:
        return budgets
    steps = np.hypot(np.diff(budgets) / np.ptp(budgets), np.diff(values) / max(np.ptp(values), 1e-300))
    lengths = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.interp(np.linspace(0.0, lengths[-1], num), lengths, budgets))


def new_neighbour(knapsack: Knapsack, chosen: Ints, known: set[bytes]) -> Ints:
    """The cheapest plan near ``chosen`` that is not known; ``chosen`` itself where none is found.

    Best first over changes of single groups, with bytes priced at the slope of the whole front.
    """
    best, largest = knapsack.values.min(axis=1).sum(), knapsack.max_useful_bytes
    worst = knapsack.total_value(knapsack.solve(knapsack.min_bytes))
    priced = knapsack.values + (worst - best) / max(largest - knapsack.min_bytes, 1) * knapsack.bytes
    real, groups = np.isfinite(priced), np.arange(len(chosen))
    start = tuple(chosen.tolist())
    queue, seen = [(0.0, start)], {start}
    for _ in range(MAX_PLANS_TRIED):
        if not queue:
            break
        _, plan = heapq.heappop(queue)
        options = np.array(plan, dtype=np.int64)
        if key_of(options) not in known:
            return options
        for group, option in np.argwhere(real).tolist():
            neighbour = (*plan[:group], option, *plan[group + 1 :])
            if neighbour not in seen:
                seen.add(neighbour)
                heapq.heappush(queue, (float(priced[groups, neighbour].sum()), neighbour))
    return chosen
