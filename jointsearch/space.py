"""The search space: modules in groups, and the weight formats and ranks that each group can have.

Every group is one Optuna parameter ``<group>.bits`` (``<group>.format`` where a format has no number of its
own) and one ``<group>.rank``, each an ordinal: its value is the position in the group's sorted choices,
because samplers that know an order (TPE, GP) find better plans with it than with unordered categories. A
choice of one is no parameter. Where learning rates are searched, ``learning_rate`` is one more of them, for
the whole plan.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from jointsearch.config.space import SpaceSettings
from jointsearch.groups import Group, group_modules
from jointsearch.plan.formats import FORMATS, UNQUANTIZED, QuantizationSettings, by_precision
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import ModuleChoice, Plan

if TYPE_CHECKING:
    from jointsearch.config.study import StudyConfig

Choices = tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

LEARNING_RATE = "learning_rate"
"""The Optuna parameter of a plan's learning rate; no group is called so."""


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
    learning_rates: tuple[float, ...] = ()
    """That are searched, rising; empty where none is."""

    @classmethod
    def build(
        cls,
        layout: ModelLayout,
        settings: SpaceSettings,
        quantization: QuantizationSettings | None = None,
        lora: LoraSettings | None = None,
    ) -> SearchSpace:
        """Group the modules of ``layout``; raises ``StudyFileError`` where a pattern or rank fits nothing."""
        lora = lora or LoraSettings()
        groups = group_modules(layout, settings, lora)
        searched = {spec.name for group in groups for spec in group.modules}
        return cls(
            groups=groups,
            fixed={
                spec.name: ModuleChoice(format=UNQUANTIZED, rank=0)
                for spec in layout.modules
                if spec.name not in searched
            },
            quantization=quantization or QuantizationSettings(),
            lora=lora,
            learning_rates=settings.learning_rates or (),
        )

    @cached_property
    def parameters(self) -> dict[str, Choices]:
        """The choices of every Optuna parameter, by its name."""
        rates: dict[str, Choices] = {LEARNING_RATE: self.learning_rates} if self.learning_rates else {}
        return {**self.group_parameters, **rates}

    @cached_property
    def group_parameters(self) -> dict[str, Choices]:
        """Those of formats and ranks."""
        found: dict[str, Choices] = {}
        for group in self.groups:
            if len(group.formats) > 1:
                numbered = group.format_parameter.endswith(".bits")
                found[group.format_parameter] = group.bits if numbered else group.formats
            if len(group.ranks) > 1:
                found[group.rank_parameter] = group.ranks
        return found

    def plan(self, params: Mapping[str, int]) -> Plan:
        """The plan of a trial's parameters (positions in the choices); without one of the learning rate it is
        trained at the study's."""
        modules = dict(self.fixed)
        for group in self.groups:
            weight_format = group.formats[params.get(group.format_parameter, 0)]
            rank = group.ranks[params.get(group.rank_parameter, 0)]
            modules |= {spec.name: group.choice(spec, weight_format, rank) for spec in group.modules}
        rate = self.learning_rates[params[LEARNING_RATE]] if LEARNING_RATE in params else None
        return Plan(modules=modules, quantization=self.quantization, lora=self.lora, learning_rate=rate)

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
        if plan.learning_rate is not None:
            if plan.learning_rate not in self.learning_rates:
                return None
            params[LEARNING_RATE] = self.learning_rates.index(plan.learning_rate)
        return self._searched(params) if plan.modules == expected else None

    def nearest(self, plan: Plan) -> dict[str, int]:
        """The parameters nearest to the mean bits and the mean rank that ``plan`` gives each group."""
        params = {}
        for group in self.groups:
            chosen = [(spec, plan.modules[spec.name]) for spec in group.modules]
            formats = [choice.format for spec, choice in chosen if spec.quantizable] or [UNQUANTIZED]
            ranks = [choice.rank for spec, choice in chosen if spec.adaptable]
            params[group.format_parameter] = group.nearest_format(formats)
            params[group.rank_parameter] = group.nearest_rank(fmean(ranks or [0]))
        return self._searched(params)

    def uniform(self, weight_format: str, rank: int) -> dict[str, int]:
        """The parameters nearest to one format and rank everywhere."""
        params = {}
        for group in self.groups:
            params[group.format_parameter] = group.nearest_format([weight_format])
            params[group.rank_parameter] = group.nearest_rank(rank)
        return self._searched(params)

    def baselines(self) -> Iterator[Baseline]:
        """The uniform plan of every format and rank that some group offers, the coarsest first."""
        formats = by_precision({name for group in self.groups for name in group.formats})
        adaptable = [group for group in self.groups if any(spec.adaptable for spec in group.modules)]
        ranks = sorted({rank for group in adaptable for rank in group.ranks} or {0})
        seen: set[Plan] = set()
        for weight_format, rank in itertools.product(formats, ranks):
            baseline = self.uniform_baseline(weight_format, rank)
            if baseline.plan not in seen:
                seen.add(baseline.plan)
                yield baseline

    def uniform_baseline(self, weight_format: str, rank: int) -> Baseline:
        """The plan nearest to one format and rank everywhere, by its name."""
        params = self.uniform(weight_format, rank)
        name = f"uniform {FORMATS[weight_format].shown} rank {rank}"
        return Baseline(Origin(kind="uniform", name=name), params, self.plan(params))

    @property
    def trained_ranks(self) -> list[int]:
        """The ranks above 0 that some group offers, rising; rank 0 where none does."""
        return sorted({rank for group in self.groups for rank in group.ranks if rank}) or [0]

    def is_uniform(self, plan: Plan) -> bool:
        """Whether the plan has one format and one rank wherever its modules can have them, and the study's
        adapters; perhaps a rank that the space does not have."""
        if plan.lora != self.lora:
            return False
        specs = [spec for group in self.groups for spec in group.modules]
        formats = {plan.modules[spec.name].format for spec in specs if spec.quantizable}
        ranks = {plan.modules[spec.name].rank for spec in specs if spec.adaptable}
        return (len(formats) <= 1 and len(ranks) <= 1) or plan.at(None) in self._uniform_plans

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
