"""What all adapters of a plan have in common: variant, start, scale, type.

LoRA adds s B A to a frozen weight, with a scale s = alpha / rank: Hu et al., arXiv 2106.09685.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.fields import Known
from jointsearch.plan.formats import FORMATS, OF_BITS, UNQUANTIZED
from jointsearch.plan.methods import METHODS, Method, methods_with
from jointsearch.plan.record import Record


class LoraSettings(Record):
    """What all adapters have in common."""

    variant: Annotated[str, Known(METHODS)] = "lora"
    """``rslora`` scales by alpha / √rank (arXiv 2312.03732); ``dora`` also trains the norm of every
    output's weights (arXiv 2402.09353). ``adalora`` moves ranks between modules while it trains
    (arXiv 2303.10512): a plan's ranks are those that it ends with on average. It is a strategy to compare
    with; a study cannot have it."""

    init: Literal["default", "pissa", "loftq"] = "default"
    """Where adapters start: at nothing, at the largest part of a 16-bit weight (``pissa``), or at what
    NF4 took away from it (``loftq``)."""

    alpha_over_rank: float = Field(default=2.0, gt=0)
    """The scale alpha / rank of every adapter: constant, so that rank is the only difference."""

    alpha: float | None = Field(default=None, gt=0)
    """The alpha of every adapter, for ``rslora`` alone; by default 8, a scale of 2 at rank 16."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the adapters' inputs, while they train."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that adapters are trained and saved in."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.alpha is not None and not self.method.same_alpha:
            known = ", ".join(methods_with(lambda method: method.same_alpha))
            raise ValueError(f"alpha is for variant: {known}; others have alpha_over_rank")
        if self.init != "default" and not self.method.other_starts:
            known = " and ".join(methods_with(lambda method: method.other_starts))
            raise ValueError(f"init: {self.init} is for the variants {known}, but got {self.variant}")
        return self

    @property
    def method(self) -> Method:
        """What is known of the variant."""
        return METHODS[self.variant]

    def alpha_of(self, rank: int) -> float:
        """PEFT's ``lora_alpha`` of an adapter of that rank."""
        return (self.alpha or 8.0) if self.method.same_alpha else self.alpha_over_rank * rank

    def scale(self, rank: int) -> float:
        """What B A is multiplied by."""
        return self.method.scale(self.alpha_of(rank), rank)

    @property
    def bits(self) -> tuple[int, ...]:
        """The bits, of formats that have a number, beside which adapters with this start can be."""
        return tuple(bits for bits, name in OF_BITS.items() if self.supports(name))

    def supports(self, weight_format: str) -> bool:
        """Whether a module in that format can have an adapter with this start: what PEFT and SVDs allow."""
        match self.init:
            case "pissa":
                return weight_format == UNQUANTIZED
            case "loftq":
                return weight_format == UNQUANTIZED or FORMATS[weight_format].loftq
        return weight_format in FORMATS
