"""The search space: modules in groups, and the bits and ranks that each group can have.

Every group is one Optuna parameter ``<group>.bits`` and one ``<group>.rank``, each an ordinal: its
value is the position in the group's sorted choices, because samplers that know an order (TPE, GP)
find better plans with it than with unordered categories. A choice of one is no parameter.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import fmean
from typing import Literal

from jointsearch.config.space import SpaceSettings
from jointsearch.errors import StudyFileError, nearest
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.plan import LoraSettings, ModuleChoice, Plan, QuantizationSettings


@dataclass(frozen=True)
class Group:
    """Modules that share one choice."""

    name: str
    block: str
    part: Part | None
    """None where a group holds several parts (``group_by: block``)."""
    modules: tuple[ModuleSpec, ...]
    bits: tuple[Literal[4, 8, 16], ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Baseline:
    """A uniform plan: the same bits and rank wherever the space offers them."""

    label: str
    values: dict[str, int]


@dataclass(frozen=True)
class SearchSpace:
    """Groups of modules, the choices of each, and the way from parameter values to a plan."""

    groups: tuple[Group, ...]
    fixed: dict[str, ModuleChoice]
    """Modules that are left out of the search."""
    quantization: QuantizationSettings
    lora: LoraSettings

    @classmethod
    def build(
        cls,
        layout: ModelLayout,
        settings: SpaceSettings,
        quantization: QuantizationSettings | None = None,
        lora: LoraSettings | None = None,
    ) -> SearchSpace:
        """Group the modules of ``layout``; raises ``StudyFileError`` where a pattern or rank fits nothing."""
        included = {
            spec.name
            for spec in layout.modules
            if _matches(spec.name, settings.include) and not _matches(spec.name, settings.exclude)
        }
        for field in ("include", "exclude"):
            _check_used(field, getattr(settings, field), [spec.name for spec in layout.modules])
        if not included:
            raise StudyFileError(
                "search_space must keep at least one module, but include and exclude leave none of "
                f"{len(layout.modules)}"
            )

        members: defaultdict[str, list[ModuleSpec]] = defaultdict(list)
        for spec in layout.modules:
            if spec.name in included and (spec.quantizable or spec.adaptable):
                members[_group_name(spec, settings.group_by)].append(spec)
        _check_used("overrides", [rule.group for rule in settings.overrides], members)

        lora = lora or LoraSettings()
        return cls(
            groups=tuple(_group(name, specs, settings, lora) for name, specs in members.items()),
            fixed={
                spec.name: ModuleChoice(bits=16, rank=0)
                for spec in layout.modules
                if spec.name not in included or not (spec.quantizable or spec.adaptable)
            },
            quantization=quantization or QuantizationSettings(),
            lora=lora,
        )

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The choices of every Optuna parameter, by its name."""
        return {
            name: choices
            for group in self.groups
            for name, choices in ((f"{group.name}.bits", group.bits), (f"{group.name}.rank", group.ranks))
            if len(choices) > 1
        }

    def plan(self, values: Mapping[str, int]) -> Plan:
        """The plan of a trial's parameter values (positions in the choices)."""
        modules = dict(self.fixed)
        for group in self.groups:
            bits = group.bits[values.get(f"{group.name}.bits", 0)]
            rank = group.ranks[values.get(f"{group.name}.rank", 0)]
            for spec in group.modules:
                modules[spec.name] = ModuleChoice(
                    bits=bits if spec.quantizable else 16, rank=rank if spec.adaptable else 0
                )
        return Plan(modules=modules, quantization=self.quantization, lora=self.lora)

    def values_of(self, plan: Plan) -> dict[str, int] | None:
        """Parameter values whose plan is ``plan``; None where the space does not have it."""
        values = {}
        for group in self.groups:
            choices = [plan.modules[spec.name] for spec in group.modules if spec.name in plan.modules]
            bits = min((choice.bits for choice in choices), default=16)
            rank = max((choice.rank for choice in choices), default=0)
            if bits not in group.bits or rank not in group.ranks:
                return None
            values[f"{group.name}.bits"] = group.bits.index(bits)
            values[f"{group.name}.rank"] = group.ranks.index(rank)
        values = {name: value for name, value in values.items() if name in self.parameters}
        return values if self.plan(values) == plan else None

    def nearest(self, plan: Plan) -> dict[str, int]:
        """Parameter values nearest to the mean bits and the mean rank that ``plan`` gives each group."""
        values = {}
        for group in self.groups:
            chosen = [(spec, plan.modules[spec.name]) for spec in group.modules]
            bits = [choice.bits for spec, choice in chosen if spec.quantizable]
            ranks = [choice.rank for spec, choice in chosen if spec.adaptable]
            values[f"{group.name}.bits"] = _nearest_position(group.bits, fmean(bits or [16]))
            values[f"{group.name}.rank"] = _nearest_position(group.ranks, fmean(ranks or [0]))
        return {name: value for name, value in values.items() if name in self.parameters}

    def uniform(self, bits: int, rank: int) -> dict[str, int]:
        """Parameter values nearest to ``bits`` and ``rank`` everywhere."""
        values = {}
        for group in self.groups:
            values[f"{group.name}.bits"] = _nearest_position(group.bits, bits)
            values[f"{group.name}.rank"] = _nearest_position(group.ranks, rank)
        return {name: value for name, value in values.items() if name in self.parameters}

    def baselines(self) -> Iterator[Baseline]:
        """The uniform plan of every bits and rank that some group offers, cheapest bits first."""
        all_bits = sorted({bits for group in self.groups for bits in group.bits})
        adaptable = [group for group in self.groups if any(spec.adaptable for spec in group.modules)]
        ranks = sorted({rank for group in adaptable for rank in group.ranks} or {0})
        seen: set[str] = set()
        for bits, rank in itertools.product(all_bits, ranks):
            values = self.uniform(bits, rank)
            if (key := self.plan(values).digest) not in seen:
                seen.add(key)
                yield Baseline(f"uniform {bits}-bit rank {rank}", values)

    def sample(self, rng: random.Random) -> dict[str, int]:
        """Parameter values drawn uniformly."""
        return {name: rng.randrange(len(choices)) for name, choices in self.parameters.items()}


def _group_name(spec: ModuleSpec, group_by: str) -> str:
    if group_by == "module":
        return spec.name
    if not spec.block:
        return spec.part.value
    return spec.block if group_by == "block" else f"{spec.block}.{spec.part.value}"


def _group(name: str, specs: list[ModuleSpec], settings: SpaceSettings, lora: LoraSettings) -> Group:
    bits, ranks = settings.bits, settings.ranks
    for rule in settings.overrides:
        if fnmatchcase(name, rule.group):
            bits, ranks = rule.bits or bits, rule.ranks or ranks
    if not any(spec.quantizable for spec in specs):
        bits = (16,)
    if not any(spec.adaptable for spec in specs):
        ranks = (0,)
    unsupported = [b for b in bits if b not in lora.bits] if ranks[-1] else []
    for spec in specs:
        if spec.adaptable and spec.quantizable and unsupported:
            raise StudyFileError(
                f"lora.init: {lora.init} needs bits among {list(lora.bits)} where adapters can be, "
                f"but group '{name}' can have {unsupported}; use another init, or other search_space.bits"
            )
        if spec.adaptable and ranks[-1] > min(spec.shape):
            raise StudyFileError(
                f"a rank must be at most the smaller side of its module, but got rank {ranks[-1]} for "
                f"{spec.name} of shape {spec.shape}; lower search_space.ranks or override group '{name}'"
            )
    parts = {spec.part for spec in specs}
    return Group(
        name=name,
        block=specs[0].block,
        part=parts.pop() if len(parts) == 1 else None,
        modules=tuple(specs),
        bits=bits,
        ranks=ranks,
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_used(field: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise StudyFileError(
                f"search_space.{field} must match a name, but '{pattern}' matches none of {len(names)} "
                f"(the first is '{names[0]}'){nearest(pattern, names)}"
            )


def _nearest_position(choices: tuple[int, ...], wanted: float) -> int:
    return min(range(len(choices)), key=lambda position: abs(choices[position] - wanted))
