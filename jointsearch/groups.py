"""Groups of modules that share one choice, and the formats and ranks that each can have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import fmean

from jointsearch.config.space import SpaceSettings
from jointsearch.errors import StudyFileError, nearest
from jointsearch.plan.formats import FORMATS, OF_BITS, UNQUANTIZED, with_bits
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import ModuleChoice


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

    def nearest_format(self, formats: Sequence[str]) -> int:
        """The position of the format that all have, if the group offers it; else of the one nearest to their
        mean bits."""
        if len(set(formats)) == 1 and formats[0] in self.formats:
            return self.formats.index(formats[0])
        return self.formats.index(with_bits(fmean(FORMATS[name].bits for name in formats), self.formats))

    def nearest_rank(self, wanted: float) -> int:
        """The position of the rank nearest to it."""
        return min(range(len(self.ranks)), key=lambda position: abs(self.ranks[position] - wanted))


def group_modules(layout: ModelLayout, settings: SpaceSettings, lora: LoraSettings) -> tuple[Group, ...]:
    """The modules of ``layout`` in groups; raises ``StudyFileError`` where a pattern or rank fits nothing.

    What is left out of the search, or can have neither format nor adapter, is in none.
    """
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
    return tuple(_group(name, specs, settings, lora) for name, specs in members.items())


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
