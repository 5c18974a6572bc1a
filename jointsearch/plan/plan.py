"""A plan: the format of every layer's frozen weights and the LoRA rank of every layer's adapter.

A plan also carries how formats and ranks are realised (``QuantizationSettings``, ``LoraSettings``), because
the bytes and the numerics follow from both. It is plain data: it is stored with each trial, exported as JSON,
and read by machines that have no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, InstanceOf, PlainSerializer, field_validator, model_validator

from jointsearch.errors import PlanError
from jointsearch.plan.formats import FORMATS, OF_BITS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.record import Record, digest
from jointsearch.registry import load

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers.utils.quantization_config import QuantizationConfigMixin


class ModuleChoice(Record):
    """What a plan says about one module. ``bits: 4`` is read as ``format: nf4``, 8 as int8, 16 as 16bit."""

    format: Annotated[str, AfterValidator(FORMATS.checked)]
    """Of the frozen weight: a name of ``plan.formats``."""
    rank: int = Field(ge=0)
    """LoRA rank; 0 means that the module has no adapter."""

    @model_validator(mode="before")
    @classmethod
    def _of_bits(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "bits" not in values or "format" in values:
            return values
        bits = values["bits"]
        if not isinstance(bits, int) or isinstance(bits, bool) or bits not in OF_BITS:
            raise ValueError(f"bits must be among {', '.join(map(str, OF_BITS))}, but got {bits!r}")
        rest = {name: value for name, value in values.items() if name != "bits"}
        return {"format": OF_BITS[bits], **rest}

    @property
    def bits(self) -> int:
        """Nominal bits of the format."""
        return FORMATS[self.format].bits

    def as_dict(self) -> dict[str, Any]:
        """As plans are stored: the formats that have a number are called by it."""
        if OF_BITS.get(self.bits) == self.format:
            return {"bits": self.bits, "rank": self.rank}
        return {"format": self.format, "rank": self.rank}


Choices = Annotated[
    dict[str, ModuleChoice],
    PlainSerializer(lambda modules: {name: choice.as_dict() for name, choice in modules.items()}),
]


@dataclass(frozen=True)
class PlanContext:
    """What a plan was made for, and where it comes from; no part of what the plan is."""

    layout: ModelLayout
    study: Any
    """The ``StudyConfig``."""
    source: Any = None
    """Of an exported plan: the ``PlanSource``."""


class Plan(Record):
    """Format and rank by full module name; modules that are not named are left alone.

    Two plans are equal if their modules, quantization, adapters and learning rates are. A plan of a study
    also knows the model's layout and the study's settings (``context``): it can be saved, loaded into
    transformers and PEFT, and trained.
    """

    modules: Choices
    quantization: QuantizationSettings = QuantizationSettings()
    lora: LoraSettings = LoraSettings()
    learning_rate: float | None = Field(default=None, gt=0, exclude_if=lambda rate: rate is None)
    """At which it is trained, in a study that searches learning rates; None: at the study's."""
    context: InstanceOf[PlanContext] | None = Field(default=None, exclude=True, repr=False)

    @field_validator("modules")
    @classmethod
    def _in_order(cls, modules: dict[str, ModuleChoice]) -> dict[str, ModuleChoice]:
        return dict(sorted(modules.items()))

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that two plans share only if they are the same plan."""
        return digest(self.model_dump(mode="json"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """pydantic's, whose copy has a digest of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied

    @property
    def formats(self) -> dict[str, str]:
        """Format by name of the modules that are quantized."""
        return {name: c.format for name, c in self.modules.items() if FORMATS[c.format].is_quantized}

    @property
    def bits(self) -> dict[str, int]:
        """Nominal bits by name of the modules that are quantized."""
        return {name: FORMATS[name_of_format].bits for name, name_of_format in self.formats.items()}

    @property
    def ranks(self) -> dict[str, int]:
        """Rank by name of the modules that have an adapter (rank above 0)."""
        return {name: choice.rank for name, choice in self.modules.items() if choice.rank > 0}

    def check(self, layout: ModelLayout) -> None:
        """Raise ``PlanError`` unless the plan fits the model of ``layout``."""
        by_name = layout.by_name()
        unknown = [name for name in self.modules if name not in by_name]
        missing = [name for name in by_name if name not in self.modules]
        if unknown or missing:
            raise PlanError(
                f"a plan must name the model's modules, but {_some(unknown)} in the plan and "
                f"{_some(missing)} in {layout.architecture} do not match; "
                "use the model that the plan was made for"
            )
        for name, choice in self.modules.items():
            entry = FORMATS[choice.format]
            if entry.is_quantized and not by_name[name].quantizable:
                raise PlanError(f"{name} cannot be quantized, but the plan gives it {entry.bits} bits")
            if entry.is_quantized and by_name[name].kind not in entry.kinds:
                raise PlanError(
                    f"{entry.name} is for {', '.join(entry.kinds)}, but the plan gives it to {name}, "
                    f"which is {by_name[name].kind}"
                )
            if choice.rank > 0 and not by_name[name].adaptable:
                raise PlanError(f"{name} cannot have an adapter, but the plan gives it rank {choice.rank}")
            if choice.rank > 0 and not self.lora.supports(choice.format):
                raise PlanError(
                    f"lora.init: {self.lora.init} needs bits among {list(self.lora.bits)}, "
                    f"but the plan gives {name} {choice.bits}"
                )

    def ending_with(self, ranks: Mapping[str, int]) -> Plan:
        """The same plan with the ranks that its adapters have ended with, if they adapt; else itself."""
        if not ranks:
            return self
        modules = {
            name: ModuleChoice(format=choice.format, rank=ranks.get(name, 0))
            for name, choice in self.modules.items()
        }
        return self.model_copy(update={"modules": modules})

    def at(self, learning_rate: float | None) -> Plan:
        """The same plan, trained at that learning rate; with None at the study's."""
        return self.model_copy(update={"learning_rate": learning_rate})

    def distilled(self, ranks: Mapping[str, int]) -> Plan:
        """An adaptive plan's last ranks as a plan of plain LoRA; any other plan itself."""
        if self.lora.method.searchable:
            return self
        lora = self.lora.model_copy(update={"variant": "lora"})
        return self.ending_with(ranks).model_copy(update={"lora": lora})

    def within(self, context: PlanContext) -> Plan:
        """The same plan as one of that model and study."""
        return self.model_copy(update={"context": context})

    # what follows is done by modules above this one, which are imported when they are asked

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Plan:
        """Read an exported plan; raises ``PlanError`` if it is missing, damaged or edited inconsistently."""
        plan: Plan = load("jointsearch.plan.plan_file:read_plan")(Path(path)).with_context
        return plan

    def save(self, path: str | PathLike[str]) -> None:
        """Write ``plan.json``, whole or not at all; raises ``OutputError`` where that cannot be."""
        load("jointsearch.plan.plan_file:save_plan")(self, Path(path))

    def lora_config(self) -> LoraConfig:
        """PEFT's config of the plan's adapters, for ``peft.get_peft_model``."""
        context = self.known_context
        arguments = load("jointsearch.plan.peft:lora_config")(self, context.layout, context.study.task.type)
        config: LoraConfig = load("peft:LoraConfig")(**arguments)
        return config

    def quantization_config(self) -> QuantizationConfigMixin:
        """For ``from_pretrained(…, quantization_config=…)``: every module in its format while it loads."""
        config: QuantizationConfigMixin = load("jointsearch.quantization.plugin:JointSearchConfig").of(
            self, self.known_context.layout
        )
        return config

    @property
    def known_context(self) -> PlanContext:
        """The context; raises ``PlanError`` where the plan has none."""
        if self.context is None:
            raise PlanError(
                "a plan must belong to a study to be saved or trained, but this one has no layout and no "
                "settings; take it from Study.select, Study.plan or Plan.load"
            )
        return self.context


def _some(names: list[str], limit: int = 4) -> str:
    """A few names in brackets, and how many more there are."""
    more = f", … {len(names) - limit} more" if len(names) > limit else ""
    return f"[{', '.join(names[:limit])}{more}]"
