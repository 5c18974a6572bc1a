"""What samplers that breed plans share: which plans are best, and plans one step away.

A step changes the format or the rank of one group to the next choice up or down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jointsearch.front.pareto import is_on_front
from jointsearch.search.additive.options import Options

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def best_first(points: Floats) -> Ints:
    """Positions by Pareto rank, then by falling crowding distance (Deb et al., NSGA-II, IEEE TEC 6(2), 2002,
    sections III.A and B). ``points``: (num_points, 2), minimized."""
    order: list[int] = []
    left = np.arange(len(points))
    while len(left):
        front = is_on_front(points[left])
        members = left[front]
        order += members[np.argsort(-_crowding(points[members]), kind="stable")].tolist()
        left = left[~front]
    return np.array(order, dtype=np.int64)


def _crowding(points: Floats) -> Floats:
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def group_steps(options: Options, group: int, option: int) -> list[int]:
    """The options of a group that are one step from ``option``."""
    entry = options.groups[group].group
    number, rank = divmod(option, len(entry.ranks))
    around = ((number - 1, rank), (number + 1, rank), (number, rank - 1), (number, rank + 1))
    return [
        f * len(entry.ranks) + r
        for f, r in around
        if 0 <= f < len(entry.formats) and 0 <= r < len(entry.ranks)
    ]


def neighbours(options: Options, chosen: Ints) -> Ints:
    """All plans one step from ``chosen``: (num_neighbours, num_groups)."""
    steps = [(group, to) for group, at in enumerate(chosen) for to in group_steps(options, group, int(at))]
    plans = np.repeat(chosen[None], len(steps), axis=0)
    for row, (group, to) in enumerate(steps):
        plans[row, group] = to
    return plans


def mutated(options: Options, chosen: Ints, rng: np.random.Generator) -> Ints:
    """Each group one step away with probability 1 / groups, at least one of them."""
    chosen = chosen.copy()
    groups = np.flatnonzero(rng.random(len(chosen)) < 1 / len(chosen))
    if not len(groups):
        groups = rng.integers(len(chosen), size=1)
    for group in groups:
        steps = group_steps(options, int(group), int(chosen[group]))
        if steps:
            chosen[group] = steps[rng.integers(len(steps))]
    return chosen
