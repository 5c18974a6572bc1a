"""Choosing one point of a front: by a byte budget, by a bound on the quality, the knee, or by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.front.pareto import knee


@dataclass(frozen=True)
class FrontPoint:
    """A finished trial on the front, as far as choosing needs it."""

    trial: int
    quality: float
    model_bytes: int


def within_bytes(front: Sequence[FrontPoint], max_bytes: int, quality: str) -> FrontPoint:
    """The best point of at most ``max_bytes``."""
    fitting = [point for point in front if point.model_bytes <= max_bytes]
    if not fitting:
        smallest = min(point.model_bytes for point in front)
        raise StudyError(
            f"no point of the front has at most {format_bytes(max_bytes)}; "
            f"the smallest has {format_bytes(smallest)} ({smallest} bytes)"
        )
    sign = OBJECTIVES[quality].sign
    return min(fitting, key=lambda point: (sign * point.quality, point.model_bytes))


def within_memory(
    front: Sequence[FrontPoint], needed: Mapping[int, int], limit: int, quality: str
) -> FrontPoint:
    """The best point whose training takes at most ``limit`` bytes; ``needed``: by trial, 0 where unknown."""
    known = {trial: size for trial, size in needed.items() if size}
    if not known:
        raise StudyError("the memory of training must be foretold, but this study has no prediction of it")
    fitting = [point for point in front if known.get(point.trial, limit + 1) <= limit]
    if not fitting:
        raise StudyError(
            f"no point of the front trains in {format_bytes(limit)}; "
            f"the leanest takes {format_bytes(min(known.values()))}"
        )
    sign = OBJECTIVES[quality].sign
    return min(fitting, key=lambda point: (sign * point.quality, point.model_bytes))


def within_quality(front: Sequence[FrontPoint], bound: float, quality: str) -> FrontPoint:
    """The smallest point whose quality is at least as good as ``bound``."""
    sign = OBJECTIVES[quality].sign
    fitting = [point for point in front if sign * point.quality <= sign * bound]
    if not fitting:
        best = min(front, key=lambda point: sign * point.quality)
        raise StudyError(
            f"no point of the front has a {quality} as good as {bound:g}; "
            f"the best is {format_value(quality, best.quality)} (trial {best.trial})"
        )
    return min(fitting, key=lambda point: (point.model_bytes, sign * point.quality))


def at_knee(front: Sequence[FrontPoint], quality: str) -> FrontPoint:
    """The point after which more bytes buy the least more quality (``pareto.knee``)."""
    sign = OBJECTIVES[quality].sign
    return front[knee([(sign * point.quality, point.model_bytes) for point in front])]
