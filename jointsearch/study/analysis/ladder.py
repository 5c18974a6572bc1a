"""The ladder: the plans that anyone can write down without a search, at every size.

Its series, for every format of the space: uniform plans; adapters in the feed-forward layers only; adapters
in attention only; embeddings and head one format up. Ranks go from 1 to the space's largest: 1, 2, 3, 4, 6,
8, 12, 16, …
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import FORMATS, by_precision
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.origin import Kind, Origin
from jointsearch.plan.plan import Plan
from jointsearch.space import SearchSpace

_BLOCKS = (Part.ATTENTION, Part.CROSS_ATTENTION, Part.MLP)
_ENDS = (Part.EMBEDDING, Part.HEAD)


@dataclass(frozen=True)
class Rung:
    """One plan of the ladder."""

    series: str
    origin: Origin
    plan: Plan
    model_bytes: int


@dataclass(frozen=True)
class _Series:
    name: str
    kind: Kind
    adapted: tuple[Part, ...] = _BLOCKS
    raised: bool = False
    """Whether embeddings and head have the next finer format."""


_SERIES = (
    _Series("uniform", "uniform"),
    _Series("feed-forward only", "strategy", adapted=(Part.MLP,)),
    _Series("attention only", "strategy", adapted=(Part.ATTENTION, Part.CROSS_ATTENTION)),
    _Series("embeddings and head finer", "strategy", raised=True),
)


def ladder_ranks(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, … up to ``largest``, which is one of them."""
    ranks = {2**power * step // 2 for power in range(largest.bit_length()) for step in (2, 3)}
    return sorted({rank for rank in ranks if 0 < rank < largest} | ({largest} if largest else set()))


def ladder(space: SearchSpace, layout: ModelLayout) -> list[Rung]:
    """All rungs, each plan once, series by series and by rising rank."""
    formats = by_precision({name for group in space.groups for name in group.formats})
    ranks = ladder_ranks(max((rank for group in space.groups for rank in group.ranks), default=0))
    seen: set[Plan] = set()
    found = []
    for series in _SERIES:
        for position, weight_format in enumerate(formats):
            finer = formats[position + 1 : position + 2]
            if series.raised and not finer:
                continue
            for rank in ranks:
                plan = _plan(space, series, weight_format, (*finer, weight_format)[0], rank)
                if plan in seen or not plan.ranks:
                    continue
                seen.add(plan)
                name = f"{series.name} {FORMATS[weight_format].shown} rank {rank}"
                origin = Origin(kind=series.kind, name=name)
                found.append(
                    Rung(f"{series.name} {weight_format}", origin, plan, plan_cost(layout, plan).model_bytes)
                )
    return found


def neighbours(rungs: list[Rung], model_bytes: int) -> Iterator[Rung]:
    """Of every series with rungs on both sides of a plan of so many bytes, the two nearest.

    Where the sides are in different series, the nearest of all.
    """
    by_series: dict[str, list[Rung]] = {}
    for rung in rungs:
        by_series.setdefault(rung.series, []).append(rung)
    found = [_around(series, model_bytes) for series in (*by_series.values(), rungs)]
    yield from dict.fromkeys(rung for pair in found if len(pair) == 2 for rung in pair)


def _around(rungs: list[Rung], model_bytes: int) -> list[Rung]:
    """The nearest on each side, as far as there is one; both are the same where one has just these bytes."""
    key: Callable[[Rung], int] = lambda rung: rung.model_bytes  # noqa: E731
    lower = [rung for rung in rungs if rung.model_bytes <= model_bytes]
    upper = [rung for rung in rungs if rung.model_bytes >= model_bytes]
    return [*([max(lower, key=key)] if lower else []), *([min(upper, key=key)] if upper else [])]


def _plan(space: SearchSpace, series: _Series, weight_format: str, finer: str, rank: int) -> Plan:
    """With the nearest format where a group does not offer this one, and no adapters where it offers none."""
    modules = dict(space.fixed)
    for group in space.groups:
        for spec in group.modules:
            wanted = finer if series.raised and spec.part in _ENDS else weight_format
            position = space.uniform(wanted, rank).get(group.format_parameter, 0)
            adapts = spec.part in series.adapted and group.ranks[-1] > 0
            modules[spec.name] = group.choice(
                spec, group.formats[position], _rank(spec, rank) if adapts else 0
            )
    return Plan(modules=modules, quantization=space.quantization, lora=space.lora)


def _rank(spec: ModuleSpec, rank: int) -> int:
    """No higher than the smaller side, where more could add nothing."""
    return min(rank, *spec.shape)
