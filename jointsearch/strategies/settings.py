"""What a strategy is told beside the layout and the byte budget, and how its choices become a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jointsearch.config.space import SpaceSettings
from jointsearch.errors import PlanError
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.cost import module_bytes, weight_bytes
from jointsearch.plan.formats import (
    FORMATS,
    OF_BITS,
    UNQUANTIZED,
    QuantizationSettings,
    by_precision,
    with_bits,
)
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.sensitivities import ModuleSensitivity, Sensitivities
from jointsearch.space import SearchSpace

Bits = int
"""Nominal bits: rules speak of them, and every module has the format of its own that is nearest."""


@dataclass(frozen=True)
class StrategySettings:
    """The same for every strategy of a comparison."""

    rank: int = 8
    """The mean rank of the modules that have an adapter, where no byte budget says otherwise."""
    bits: Bits = 4
    """Of every module, where a strategy has no rule for bits."""
    quantization: QuantizationSettings = field(default_factory=QuantizationSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    formats: tuple[str, ...] = tuple(OF_BITS.values())
    """What modules can have."""
    pinned_formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The formats that a module may have, where a study leaves it no other."""
    no_adapter: frozenset[str] = frozenset()
    """Modules that a study gives no adapter."""
    sensitivities: Sensitivities | None = None
    distilled_ranks: Mapping[str, int] | None = None
    """The ranks that an AdaLoRA run has ended with."""

    @classmethod
    def of(cls, space: SearchSpace, settings: SpaceSettings, rank: int | None = None) -> StrategySettings:
        """As a study has it: what it leaves out stays out, and what an override says holds.

        The choices of bits and ranks that all groups share are the search's, and bind no strategy. The
        rank is by default the middle one of the study's.
        """
        pinned: dict[str, tuple[str, ...]] = dict.fromkeys(space.fixed, (UNQUANTIZED,))
        no_adapter = set(space.fixed)
        for group in space.groups:
            if group.formats != settings.format_choices:
                pinned |= {spec.name: group.formats for spec in group.modules}
            if group.ranks[-1] == 0:
                no_adapter |= {spec.name for spec in group.modules}
        ranks = settings.ranks
        return cls(
            rank=ranks[len(ranks) // 2] if rank is None else rank,
            quantization=space.quantization,
            lora=space.lora,
            formats=settings.formats or tuple(OF_BITS.values()),
            pinned_formats=pinned,
            no_adapter=frozenset(no_adapter),
        )

    def adapted(self, layout: ModelLayout) -> list[ModuleSpec]:
        """The modules that can have an adapter, in the order of the forward pass."""
        return [spec for spec in layout.modules if spec.adaptable and spec.name not in self.no_adapter]

    def formats_of(self, spec: ModuleSpec) -> tuple[str, ...]:
        """The formats that a module can have, from the coarsest."""
        return (
            by_precision(self.pinned_formats.get(spec.name, self.formats))
            if spec.quantizable
            else (UNQUANTIZED,)
        )

    def choices_of(self, spec: ModuleSpec) -> tuple[Bits, ...]:
        """Their bits, rising."""
        return tuple(sorted({FORMATS[name].bits for name in self.formats_of(spec)}))

    def bits_of(self, layout: ModelLayout, wanted: Mapping[str, int] | int) -> dict[str, Bits]:
        """Of every module the bits nearest to those ``wanted`` that it can have."""
        return {
            spec.name: min(
                self.choices_of(spec),
                key=lambda b: abs(b - (wanted if isinstance(wanted, int) else wanted[spec.name])),
            )
            for spec in layout.modules
        }

    def format_of(self, spec: ModuleSpec, bits: Bits) -> str:
        """The module's format of so many bits."""
        return with_bits(bits, self.formats_of(spec))

    def plan(
        self,
        layout: ModelLayout,
        bits: Mapping[str, Bits],
        ranks: Mapping[str, int],
    ) -> Plan:
        """The plan of bits by module and ranks (none: no adapter); raises ``PlanError`` if it cannot be."""
        modules = {
            spec.name: ModuleChoice(
                format=self.format_of(spec, bits[spec.name]), rank=min(ranks.get(spec.name, 0), spec.max_rank)
            )
            for spec in layout.modules
        }
        made = Plan(modules=modules, quantization=self.quantization, lora=self.lora)
        made.check(layout)
        return made

    def bytes_of(
        self, layout: ModelLayout, bits: Mapping[str, int], ranks: Mapping[str, int] | None = None
    ) -> int:
        """``model_bytes`` of such a plan (``cost.plan_cost`` of the whole says the same)."""
        return layout.other_bytes + sum(
            module_bytes(
                spec,
                self.format_of(spec, bits[spec.name]),
                min((ranks or {}).get(spec.name, 0), spec.max_rank),
                self.quantization,
                self.lora,
            )
            for spec in layout.modules
        )

    def weight_bytes(self, spec: ModuleSpec, bits: int) -> int:
        return weight_bytes(spec, self.format_of(spec, bits), self.quantization)

    def sensitivity_of(self, name: str) -> ModuleSensitivity:
        """What was measured of a module."""
        if self.sensitivities is None:
            raise PlanError("it needs measured sensitivities, but none were given")
        if name not in self.sensitivities.modules:
            raise PlanError(f"the sensitivities were measured on another model: they lack {name}")
        return self.sensitivities.modules[name]


def too_small(max_bytes: int, smallest: int) -> PlanError:
    """What to say where a strategy has no plan within the budget."""
    return PlanError(
        f"a byte budget must hold the strategy's smallest plan, which has {format_bytes(smallest)} "
        f"({smallest} bytes), but got {format_bytes(max_bytes)}; raise the budget or use fewer bits"
    )
