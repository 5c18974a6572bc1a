"""What all adapters of a plan have in common: variant, start, scale, type.

LoRA adds s B A to a frozen weight, with a scale s = alpha / rank: Hu et al., arXiv 2106.09685. With one alpha
for all ranks the best learning rate hardly depends on the rank (Schulman et al., "LoRA Without Regret", 2025;
``studies/benchmarks/rates.md``), so that plans are judged by what they are and not by their rate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.fields import Formerly, Known
from jointsearch.plan.formats import FORMATS, OF_BITS, UNQUANTIZED
from jointsearch.plan.methods import METHODS, Method, lora_scale, methods_with
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

    alpha_over_rank: Annotated[float | None, Formerly(2.0)] = Field(default=None, gt=0)
    """In place of ``alpha``: one scale alpha / rank for all ranks. A high rank then learns faster than a low
    one, and the best learning rate falls as the rank grows."""

    alpha: Annotated[float | None, Formerly(None)] = Field(default_factory=lambda known: _alpha(known), gt=0)
    """The alpha of every adapter, whatever its rank: 16, or 8 for ``rslora``."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the adapters' inputs, while they train."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that adapters are trained and saved in."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.alpha is not None and self.alpha_over_rank is not None and self.method.scale is lora_scale:
            raise ValueError(
                f"adapters have alpha or alpha_over_rank, but got {self.alpha:g} and {self.alpha_over_rank:g}"
            )
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
        if self.alpha_over_rank is not None and self.method.scale is lora_scale:
            return self.alpha_over_rank * rank
        return self.alpha or self.method.alpha

    def scale(self, rank: int) -> float:
        """What B A is multiplied by."""
        return self.method.scale(self.alpha_of(rank), rank)

    @property
    def why_no_experts(self) -> str | None:
        """Why PEFT has no such adapters for experts (``target_parameters``); None where it has."""
        if not self.method.experts:
            return f"PEFT's {self.variant} is not for experts"
        if self.dropout or self.init != "default":
            return "PEFT's adapters of experts have no dropout, and start at nothing"
        return None

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


def _alpha(known: dict[str, Any]) -> float | None:
    """What ``alpha`` is where nothing is said of it, beside the fields before it."""
    if known.get("alpha_over_rank") is not None or known.get("variant") not in METHODS:
        return None
    return METHODS[known["variant"]].alpha
