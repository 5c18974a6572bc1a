"""The search space: modules in groups, and the weight formats and ranks that each group can have.

Every group is one Optuna parameter ``<group>.bits`` (``<group>.format`` where a format has no number of its
own) and one ``<group>.rank``, each an ordinal: its value is the position in the group's sorted choices,
because samplers that know an order (TPE, GP) find better plans with it than with unordered categories. A
choice of one is no parameter.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from jointsearch.config.space import SpaceSettings
from jointsearch.errors import StudyFileError, nearest
from jointsearch.plan.formats import (
    FORMATS,
    OF_BITS,
    UNQUANTIZED,
    QuantizationSettings,
    by_precision,
    with_bits,
)
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import ModuleChoice, Plan

if TYPE_CHECKING:
    from jointsearch.config.study import StudyConfig


@dataclass(frozen=True)
class Group:
    """Modules that share one choice."""

    name: str
    block: str
    part: Part | None
    """None where a group holds several parts (``group_by: block``)."""
    modules: tuple[ModuleSpec, ...]
    formats: tuple[str, ...]
    """From the coarsest."""
    ranks: tuple[int, ...]

    @property
    def bits(self) -> tuple[int, ...]:
        """Nominal bits of the formats."""
        return tuple(FORMATS[name].bits for name in self.formats)

    @property
    def format_parameter(self) -> str:
        """The name of the Optuna parameter that chooses the format."""
        numbered = set(self.formats) <= set(OF_BITS.values())
        return f"{self.name}.bits" if numbered else f"{self.name}.format"

    @property
    def rank_parameter(self) -> str:
        return f"{self.name}.rank"

    def choice(self, spec: ModuleSpec, weight_format: str, rank: int) -> ModuleChoice:
        """What the group's choice means for one of its modules."""
        return ModuleChoice(
            format=weight_format if spec.quantizable else UNQUANTIZED,
            rank=min(rank, spec.max_rank) if spec.adaptable else 0,
        )


@dataclass(frozen=True)
class Baseline:
    """A plan of the space that a search is measured against: a uniform one, or that of a strategy."""

    origin: Origin
    params: dict[str, int]
    plan: Plan


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
                spec.name: ModuleChoice(format=UNQUANTIZED, rank=0)
                for spec in layout.modules
                if spec.name not in included or not (spec.quantizable or spec.adaptable)
            },
            quantization=quantization or QuantizationSettings(),
            lora=lora,
        )

    @cached_property
    def parameters(self) -> dict[str, tuple[int, ...] | tuple[str, ...]]:
        """The choices of every Optuna parameter, by its name."""
        found: dict[str, tuple[int, ...] | tuple[str, ...]] = {}
        for group in self.groups:
            if len(group.formats) > 1:
                numbered = group.format_parameter.endswith(".bits")
                found[group.format_parameter] = group.bits if numbered else group.formats
            if len(group.ranks) > 1:
                found[group.rank_parameter] = group.ranks
        return found

    def plan(self, params: Mapping[str, int]) -> Plan:
        """The plan of a trial's parameters (positions in the choices)."""
        modules = dict(self.fixed)
        for group in self.groups:
            weight_format = group.formats[params.get(group.format_parameter, 0)]
            rank = group.ranks[params.get(group.rank_parameter, 0)]
            modules |= {spec.name: group.choice(spec, weight_format, rank) for spec in group.modules}
        return Plan(modules=modules, quantization=self.quantization, lora=self.lora)

    def params_of(self, plan: Plan) -> dict[str, int] | None:
        """The parameters whose plan is ``plan``; None where the space does not have it."""
        if plan.quantization != self.quantization or plan.lora != self.lora:
            return None
        expected = dict(self.fixed)
        params: dict[str, int] = {}
        for group in self.groups:
            chosen = [(spec, plan.modules.get(spec.name)) for spec in group.modules]
            formats = [choice.format for spec, choice in chosen if choice and spec.quantizable]
            ranks = [choice.rank for spec, choice in chosen if choice and spec.adaptable]
            weight_format, rank = (formats or [UNQUANTIZED])[0], max(ranks, default=0)
            if weight_format not in group.formats or rank not in group.ranks:
                return None
            params[group.format_parameter] = group.formats.index(weight_format)
            params[group.rank_parameter] = group.ranks.index(rank)
            expected |= {spec.name: group.choice(spec, weight_format, rank) for spec in group.modules}
        return self._searched(params) if plan.modules == expected else None

    def nearest(self, plan: Plan) -> dict[str, int]:
        """The parameters nearest to the mean bits and the mean rank that ``plan`` gives each group."""
        params = {}
        for group in self.groups:
            chosen = [(spec, plan.modules[spec.name]) for spec in group.modules]
            formats = [choice.format for spec, choice in chosen if spec.quantizable] or [UNQUANTIZED]
            ranks = [choice.rank for spec, choice in chosen if spec.adaptable]
            params[group.format_parameter] = _position_of(group, formats)
            params[group.rank_parameter] = _nearest_position(group.ranks, fmean(ranks or [0]))
        return self._searched(params)

    def uniform(self, weight_format: str, rank: int) -> dict[str, int]:
        """The parameters nearest to one format and rank everywhere."""
        params = {}
        for group in self.groups:
            params[group.format_parameter] = _position_of(group, [weight_format])
            params[group.rank_parameter] = _nearest_position(group.ranks, rank)
        return self._searched(params)

    def baselines(self) -> Iterator[Baseline]:
        """The uniform plan of every format and rank that some group offers, the coarsest first."""
        formats = by_precision({name for group in self.groups for name in group.formats})
        adaptable = [group for group in self.groups if any(spec.adaptable for spec in group.modules)]
        ranks = sorted({rank for group in adaptable for rank in group.ranks} or {0})
        seen: set[Plan] = set()
        for weight_format, rank in itertools.product(formats, ranks):
            params = self.uniform(weight_format, rank)
            plan = self.plan(params)
            if plan not in seen:
                seen.add(plan)
                name = f"uniform {FORMATS[weight_format].shown} rank {rank}"
                yield Baseline(Origin(kind="uniform", name=name), params, plan)

    def is_uniform(self, plan: Plan) -> bool:
        """Whether the plan has one format and one rank wherever its modules can have them, and the study's
        adapters; perhaps a rank that the space does not have."""
        if plan.lora != self.lora:
            return False
        specs = [spec for group in self.groups for spec in group.modules]
        formats = {plan.modules[spec.name].format for spec in specs if spec.quantizable}
        ranks = {plan.modules[spec.name].rank for spec in specs if spec.adaptable}
        return (len(formats) <= 1 and len(ranks) <= 1) or plan in self._uniform_plans

    @cached_property
    def _uniform_plans(self) -> frozenset[Plan]:
        """With the exceptions that overrides make."""
        return frozenset(baseline.plan for baseline in self.baselines())

    def _searched(self, params: dict[str, int]) -> dict[str, int]:
        """Without those that have one choice alone."""
        return {name: position for name, position in params.items() if name in self.parameters}

    def sample(self, rng: random.Random) -> dict[str, int]:
        """Parameters drawn uniformly."""
        return {name: rng.randrange(len(choices)) for name, choices in self.parameters.items()}


def build_space(config: StudyConfig, layout: ModelLayout) -> SearchSpace:
    """The study's; raises ``StudyFileError`` where its patterns or ranks fit nothing."""
    return SearchSpace.build(layout, config.search_space, config.quantization, config.lora)


def _group_name(spec: ModuleSpec, group_by: str) -> str:
    if group_by == "module":
        return spec.name
    if not spec.block:
        return spec.part.value
    return spec.block if group_by == "block" else f"{spec.block}.{spec.part.value}"


def _group(name: str, specs: list[ModuleSpec], settings: SpaceSettings, lora: LoraSettings) -> Group:
    formats, ranks = settings.format_choices, settings.ranks
    for rule in settings.overrides:
        if fnmatchcase(name, rule.group):
            formats, ranks = rule.format_choices or formats, rule.ranks or ranks
    if not any(spec.quantizable for spec in specs):
        formats = (UNQUANTIZED,)
    if not any(spec.adaptable for spec in specs):
        ranks = (0,)
    unsupported = [FORMATS[f].bits for f in formats if not lora.supports(f)] if ranks[-1] else []
    for spec in specs:
        if spec.adaptable and spec.quantizable and unsupported:
            raise StudyFileError(
                f"lora.init: {lora.init} needs bits among {list(lora.bits)} where adapters can be, "
                f"but group '{name}' can have {unsupported}; use another init, or other search_space.bits"
            )
    widest = max((spec for spec in specs if spec.adaptable), key=lambda s: s.max_rank, default=None)
    if widest is not None and ranks[-1] > widest.max_rank:
        raise StudyFileError(
            f"a rank must be at most the smaller side of its module, but got rank {ranks[-1]} for "
            f"{widest.name} of shape {widest.shape}; lower search_space.ranks or override group '{name}'"
        )
    parts = {spec.part for spec in specs}
    return Group(
        name=name,
        block=specs[0].block,
        part=parts.pop() if len(parts) == 1 else None,
        modules=tuple(specs),
        formats=formats,
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


def _position_of(group: Group, formats: Sequence[str]) -> int:
    """Of the format that all have, if the group offers it; else of the one nearest to their mean bits."""
    if len(set(formats)) == 1 and formats[0] in group.formats:
        return group.formats.index(formats[0])
    return group.formats.index(with_bits(fmean(FORMATS[name].bits for name in formats), group.formats))


def _nearest_position(choices: tuple[int, ...], wanted: float) -> int:
    return min(range(len(choices)), key=lambda position: abs(choices[position] - wanted))
