"""Pareto fronts and the hypervolume under them, for a handful of objectives.

A point dominates another if it is at least as good in every objective and better in one
(Deb et al., NSGA-II, IEEE TEC 6(2), 2002, section III). All functions minimize: turn the sign of
what should grow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def is_on_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates. ``points``: (num_points, num_objectives), finite.

    Of equal points all are on the front or none is.
    """
    values = np.asarray(points, dtype=float)
    if values.size == 0:
        return np.zeros(len(values), dtype=bool)
    no_worse = (values[:, None, :] <= values[None, :, :]).all(axis=2)
    better = (values[:, None, :] < values[None, :, :]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


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
