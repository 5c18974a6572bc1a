"""A plan: the bits of every layer's frozen weights and the LoRA rank of every layer's adapter.

A plan also carries how the bits and ranks are realised (``QuantizationSettings``,
``LoraSettings``), because the bytes and the numerics follow from both. It is plain data: it is
stored with each trial, exported as JSON, and read by machines that have no torch.

NF4 and double quantization: Dettmers et al., QLoRA, arXiv 2305.14314, sections 2 and 3.
LLM.int8(): Dettmers et al., arXiv 2208.07339. LoRA: Hu et al., arXiv 2106.09685.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, field_validator, model_validator


class Record(BaseModel):
    """Frozen plain data that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class QuantizationSettings(Record):
    """How quantized weights are stored and multiplied."""

    double_quant: bool = True
    """Quantize the NF4 scales too (QLoRA, section 3): 0.127 instead of 0.5 bits per weight."""

    int8_threshold: float = Field(default=6.0, ge=0)
    """Activations above it are multiplied in 16 bits (LLM.int8(), section 3.2); 0 turns it off."""


class LoraSettings(Record):
    """What all adapters have in common."""

    variant: Literal["lora", "rslora", "dora", "adalora"] = "lora"
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

    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that adapters are trained and saved in."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.alpha is not None and self.variant != "rslora":
            raise ValueError("alpha is for variant: rslora; others have alpha_over_rank")
        if self.init != "default" and self.variant not in ("lora", "rslora"):
            raise ValueError(f"init: {self.init} is for the variants lora and rslora, but got {self.variant}")
        return self

    def alpha_of(self, rank: int) -> float:
        """PEFT's ``lora_alpha`` of an adapter of that rank."""
        return (self.alpha or 8.0) if self.variant == "rslora" else self.alpha_over_rank * rank

    def scale(self, rank: int) -> float:
        """What B A is multiplied by."""
        return self.alpha_of(rank) / (rank**0.5 if self.variant == "rslora" else rank)

    @property
    def bits(self) -> tuple[int, ...]:
        """The bits of modules that adapters with this start can have: what PEFT supports."""
        return {"default": (4, 8, 16), "pissa": (16,), "loftq": (4, 16)}[self.init]


class ModuleChoice(Record):
    """What a plan says about one module."""

    bits: Literal[4, 8, 16]
    """NF4, LLM.int8(), or the model's own 16-bit type."""
    rank: int = Field(ge=0)
    """LoRA rank; 0 means that the module has no adapter."""


Choices = Annotated[
    dict[str, ModuleChoice],
    PlainSerializer(lambda modules: {n: {"bits": c.bits, "rank": c.rank} for n, c in modules.items()}),
]


class Plan(Record):
    """Bits and rank by full module name; modules that are not named are left alone."""

    modules: Choices
    quantization: QuantizationSettings = QuantizationSettings()
    lora: LoraSettings = LoraSettings()

    @field_validator("modules")
    @classmethod
    def _in_order(cls, modules: dict[str, ModuleChoice]) -> dict[str, ModuleChoice]:
        return dict(sorted(modules.items()))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that two plans share only if they are the same plan."""
        return digest(self.model_dump(mode="json"))

    @property
    def bits(self) -> dict[str, int]:
        """Bits by name of the modules that are quantized (below 16 bits)."""
        return {name: choice.bits for name, choice in self.modules.items() if choice.bits < 16}

    @property
    def ranks(self) -> dict[str, int]:
        """Rank by name of the modules that have an adapter (rank above 0)."""
        return {name: choice.rank for name, choice in self.modules.items() if choice.rank > 0}

    def ending_with(self, ranks: Mapping[str, int]) -> Plan:
        """The same plan with the ranks that its adapters have ended with, if they adapt; else itself."""
        if not ranks:
            return self
        modules = {
            name: ModuleChoice(bits=choice.bits, rank=ranks.get(name, 0))
            for name, choice in self.modules.items()
        }
        return self.model_copy(update={"modules": modules})

    def distilled(self, ranks: Mapping[str, int]) -> Plan:
        """An adaptive plan's last ranks as a plan of plain LoRA; any other plan itself."""
        if self.lora.variant != "adalora":
            return self
        lora = self.lora.model_copy(update={"variant": "lora"})
        return self.ending_with(ranks).model_copy(update={"lora": lora})


def digest(value: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
