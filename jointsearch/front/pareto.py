"""Pareto fronts and the hypervolume under them, for a handful of objectives.

A point dominates another if it is at least as good in every objective and better in one
(Deb et al., NSGA-II, IEEE TEC 6(2), 2002, section III). All functions minimize: turn the sign of
what should grow.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 256
"""Points that are compared with all others at once: memory grows with it."""


def is_on_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates. ``points``: (num_points, num_objectives), finite.

    Of equal points all are on the front or none is. Two objectives take n log n, more take n².
    """
    values = np.asarray(points, dtype=float)
    if values.size == 0:
        return np.zeros(len(values), dtype=bool)
    if values.shape[1] == 2:
        return _is_on_plane_front(values)
    found = np.empty(len(values), dtype=bool)
    for start in range(0, len(values), BLOCK):
        block = values[None, start : start + BLOCK, :]
        no_worse = (values[:, None, :] <= block).all(axis=2)
        better = (values[:, None, :] < block).any(axis=2)
        found[start : start + BLOCK] = ~(no_worse & better).any(axis=0)
    return found


def _is_on_plane_front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """By the first objective, then the second: a point must be the lowest of all that are not after it."""
    order = np.lexsort((values[:, 1], values[:, 0]))
    first, second = values[order].T
    is_new = np.append(True, first[1:] != first[:-1])
    start = np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))  # of those of equal first value
    lowest = np.minimum.accumulate(second)
    is_beaten = (start > 0) & (lowest[start - 1] <= second)
    found = np.empty(len(order), dtype=bool)
    found[order] = ~is_beaten & (second == second[start])
    return found


def knee(points: ArrayLike) -> int:
    """The position on a front farthest below the line between its two ends.

    Both objectives are scaled to [0, 1] over the front first (Das, Structural Optimization 18,
    1999: the normal-boundary definition, in two objectives). A front of one or two points, or one
    that never bends below its line, gives the point nearest to the ideal corner.
    """
    values = np.asarray(points, dtype=float)[:, :2]
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    below_line = 1.0 - scaled.sum(axis=1)  # the ends are (0, 1) and (1, 0)
    if below_line.max() <= 0:
        return int(np.argmin((scaled**2).sum(axis=1)))
    return int(np.argmax(below_line))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Area that a set of two-objective points dominates, up to ``reference``.

    Points that are not better than ``reference`` in both objectives add nothing.
    """
    corner = np.asarray(reference, dtype=float)
    values = np.asarray(points, dtype=float).reshape(-1, 2)
    values = values[(values < corner).all(axis=1)]
    values = values[np.lexsort((values[:, 1], values[:, 0]))]
    area, ceiling = 0.0, corner[1]
    for first, second in values:
        if second < ceiling:
            area += (corner[0] - first) * (ceiling - second)
            ceiling = second
    return area


def growing_hypervolume(points: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """The hypervolume of the first point, of the first two, and so on."""
    right, top = np.asarray(reference, dtype=float).tolist()
    firsts: list[float] = []  # of the front so far, rising; its second values fall
    seconds: list[float] = []
    area, areas = 0.0, []
    for x, y in np.asarray(points, dtype=float).reshape(-1, 2).tolist():
        start = bisect_left(firsts, x)
        ceiling = seconds[start - 1] if start else top
        is_dominated = start < len(firsts) and firsts[start] == x and seconds[start] <= y
        if x < right and y < ceiling and not is_dominated:
            end, left = start, x
            while end < len(firsts) and seconds[end] >= y:  # what the point dominates
                area += (firsts[end] - left) * (ceiling - y)
                left, ceiling = firsts[end], seconds[end]
                end += 1
            area += ((firsts[end] if end < len(firsts) else right) - left) * (ceiling - y)
            firsts[start:end], seconds[start:end] = [x], [y]
        areas.append(area)
    return np.array(areas)
