"""What a study file says about the search space."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from jointsearch.config.fields import NOT_IDENTITY, Known
from jointsearch.config.names import STRATEGIES
from jointsearch.front.objectives import parse_bytes
from jointsearch.plan.formats import FORMATS, OF_BITS, by_precision
from jointsearch.plan.record import Record

Number = TypeVar("Number", int, float)


def _distinct(values: tuple[Number, ...]) -> tuple[Number, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"the choices must differ, but got {list(values)}")
    return tuple(sorted(values))


def _formats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"the choices must differ, but got {list(names)}")
    return by_precision(names)


Format = Annotated[str, Known(FORMATS)]

FormatChoices = Annotated[tuple[Format, ...], Field(min_length=1), AfterValidator(_formats)]

BitsChoices = Annotated[tuple[Literal[4, 8, 16], ...], Field(min_length=1), AfterValidator(_distinct)]

RankChoices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)
]

LearningRates = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2), AfterValidator(_distinct)
]


def _num_bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


ByteSize = Annotated[
    int,
    BeforeValidator(_num_bytes),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]}),
]
"""A number of bytes, or a text such as ``12GB``."""

Enqueued = Annotated[str, Known(STRATEGIES, lambda strategy: strategy.starts_search)]
"""A strategy (``jointsearch.strategies``) that a search can start with."""


class Override(Record):
    """Other choices for the groups whose names match."""

    group: str
    """A group's name, or a pattern such as ``*.mlp``."""
    bits: BitsChoices | None = None
    """In place of the search space's."""
    formats: FormatChoices | None = None
    """In place of ``bits``."""
    ranks: RankChoices | None = None
    """In place of the search space's."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.bits is not None and self.formats is not None:
            raise ValueError("a rule has bits or formats, but got both")
        return self

    @property
    def format_choices(self) -> tuple[str, ...] | None:
        """The formats that the rule leaves, from the coarsest; None where it says nothing of them."""
        return formats_of(self.bits) if self.bits is not None else self.formats


class SpaceSettings(Record):
    """What a study file says about the search space."""

    group_by: Literal["block", "part", "module"] = "part"
    """One choice per block, per attention and feed-forward network of a block, or per module."""
    bits: BitsChoices = (4, 8, 16)
    """4 is the format nf4, 8 is int8, 16 is the model's own 16-bit type."""
    formats: FormatChoices | None = None
    """Weight formats by name, in place of ``bits``."""
    ranks: RankChoices = (0, 4, 8, 16)
    """LoRA ranks to choose from; 0 is no adapter."""
    learning_rates: LearningRates | None = None
    """Learning rates to choose from, one for each plan. What no sampler proposes (uniform plans, strategies,
    the ladder) has ``calibration.learning_rate``: the one of these that a sweep finds, or one that is
    named there. By default none is searched: all plans have that one."""
    max_model_bytes: Annotated[ByteSize | None, NOT_IDENTITY] = None
    """Such as ``500MB``: no plan that weighs more is proposed."""
    max_training_memory: Annotated[ByteSize | None, NOT_IDENTITY] = None
    """Such as ``12GB``: no plan is proposed whose training, as it is foretold, takes more at once."""
    include: tuple[str, ...] = ("*",)
    """Patterns of module names; what matches none stays at 16 bits without an adapter."""
    exclude: tuple[str, ...] = ()
    """Patterns of module names that are left out, though ``include`` has them."""
    overrides: tuple[Override, ...] = ()
    """Other choices for some groups; of several that match, the last one that names a choice counts."""
    enqueue: tuple[Enqueued, ...] = ("uniform",)
    """Plans that are tried first: ``uniform`` is every bits × rank, the baselines of the front; every other
    strategy is one plan, the nearest that the space has."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.formats is not None and "bits" in self.model_fields_set and self.bits != (4, 8, 16):
            raise ValueError("a search space has bits or formats, but got both")
        return self

    @property
    def format_choices(self) -> tuple[str, ...]:
        """The formats to choose from, from the coarsest."""
        return self.formats or formats_of(self.bits)


def formats_of(bits: tuple[int, ...]) -> tuple[str, ...]:
    """The formats that are called by these bits."""
    return tuple(OF_BITS[choice] for choice in bits)
