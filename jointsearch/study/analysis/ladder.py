"""The ladder: the plans that anyone can write down without a search, at every size.

Its series, for every format of the space: uniform plans; adapters in the feed-forward layers only; adapters
in attention only; in the last half of the blocks only; in the feed-forward layers of their last quarter only;
embeddings and head one format up. Ranks go from 1 to the space's largest: 1, 2, 3, 4, 6, 8, 12, 16, …

The last blocks are in it because a search gains at the smallest sizes by adapting few layers, and such rules
have most of that by hand (``studies/benchmarks/mixing.md``). Blocks are counted within each stack (encoder,
decoder), rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import FORMATS, by_precision
from jointsearch.plan.layout import ModelLayout, Part
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
    last: float = 1.0
    """Of the blocks of every stack, the share that has adapters, counted from its end."""
    raised: bool = False
    """Whether embeddings and head have the next finer format."""


_SERIES = (
    _Series("uniform", "uniform"),
    _Series("feed-forward only", "strategy", adapted=(Part.MLP,)),
    _Series("attention only", "strategy", adapted=(Part.ATTENTION, Part.CROSS_ATTENTION)),
    _Series("last half of the blocks", "strategy", last=1 / 2),
    _Series("feed-forward of the last quarter", "strategy", adapted=(Part.MLP,), last=1 / 4),
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
    found: dict[Plan, Rung] = {}
    for series in _SERIES:
        blocks = _last_blocks(space, series.last)
        for weight_format, finer in zip(formats, [*formats[1:], None], strict=True):
            if series.raised and finer is None:
                continue
            ends = finer if series.raised and finer else weight_format
            for rank in ranks:
                plan = _plan(space, series, blocks, weight_format, ends, rank)
                if plan not in found and plan.ranks:
                    name = f"{series.name} {FORMATS[weight_format].shown} rank {rank}"
                    found[plan] = Rung(
                        series=f"{series.name} {weight_format}",
                        origin=Origin(kind=series.kind, name=name),
                        plan=plan,
                        model_bytes=plan_cost(layout, plan).model_bytes,
                    )
    return list(found.values())


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
    size = attrgetter("model_bytes")
    lower = [rung for rung in rungs if rung.model_bytes <= model_bytes]
    upper = [rung for rung in rungs if rung.model_bytes >= model_bytes]
    return [*([max(lower, key=size)] if lower else []), *([min(upper, key=size)] if upper else [])]


def _last_blocks(space: SearchSpace, share: float) -> set[str]:
    """Of the blocks of every stack that can have adapters; "", what is outside of blocks, where all are."""
    stacks: dict[str, dict[str, None]] = {}
    for spec in (spec for group in space.groups if group.ranks[-1] for spec in group.modules):
        if spec.adaptable:
            stacks.setdefault(spec.stack, {})[spec.block] = None
    found = {block for blocks in stacks.values() for block in [*blocks][-math.ceil(share * len(blocks)) :]}
    return found if share == 1 else found - {""}


def _plan(
    space: SearchSpace, series: _Series, blocks: set[str], weight_format: str, ends: str, rank: int
) -> Plan:
    """One plan of a series, with adapters in ``blocks``; ``ends``: the format of embeddings and head.

    A group that does not offer a format has the nearest one, a group without ranks no adapters, and a module
    no higher rank than its smaller side, where more could add nothing.
    """
    positions = {name: space.uniform(name, rank) for name in {weight_format, ends}}
    modules = dict(space.fixed)
    for group in space.groups:
        for spec in group.modules:
            wanted = ends if spec.part in _ENDS else weight_format
            chosen = group.formats[positions[wanted].get(group.format_parameter, 0)]
            adapts = spec.part in series.adapted and spec.block in blocks and group.ranks[-1] > 0
            modules[spec.name] = group.choice(spec, chosen, rank if adapts else 0)
    return Plan(modules=modules, quantization=space.quantization, lora=space.lora)
