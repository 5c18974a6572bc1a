"""What a study file says about the search space."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from jointsearch.plan.plan import Record


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"the choices must differ, but got {list(values)}")
    return tuple(sorted(values))


BitsChoices = Annotated[tuple[Literal[4, 8, 16], ...], Field(min_length=1), AfterValidator(_distinct)]

RankChoices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)
]

Enqueued = Literal[
    "uniform",
    "linear-decay",
    "attention-first",
    "ffn-first",
    "gradient",
    "movement",
    "fisher",
    "complementary",
    "complementary-reversed",
    "sensitive-8bit",
    "cross-attention-8bit",
    "encoder-8bit-decoder-4bit",
    "encoder-4bit-decoder-8bit",
    "quantization-error",
    "output-error",
    "ilp",
    "ilp-fisher",
    "adalora-distilled",
]
"""The strategies (``jointsearch.strategies.registry``) that a search can start with."""


class Override(Record):
    """Other choices for the groups whose names match."""

    group: str
    """A group's name, or a pattern such as ``*.mlp``."""
    bits: BitsChoices | None = None
    ranks: RankChoices | None = None


class SpaceSettings(Record):
    """What a study file says about the search space."""

    group_by: Literal["block", "part", "module"] = "part"
    """One choice per block, per attention and feed-forward network of a block, or per module."""
    bits: BitsChoices = (4, 8, 16)
    ranks: RankChoices = (0, 4, 8, 16)
    include: tuple[str, ...] = ("*",)
    """Patterns of module names; what matches none stays at 16 bits without an adapter."""
    exclude: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    enqueue: tuple[Enqueued, ...] = ("uniform",)
    """Plans that are tried first: ``uniform`` is every bits × rank, the baselines of the front; every other
    strategy is one plan, the nearest that the space has."""
