"""A plan as grids: blocks across, modules down, those of the same choices in one row."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from jointsearch.dashboard.data.plan import OUTSIDE, Cell
from jointsearch.plan.formats import FORMATS, OF_BITS, by_precision
from jointsearch.plan.plan import Plan
from jointsearch.space import SearchSpace


@dataclass(frozen=True)
class Scale:
    """The formats and ranks that a study's plans can have, which colours tell apart."""

    formats: tuple[str, ...]
    """The coarsest first."""
    ranks: tuple[int, ...]
    """Rising."""

    @classmethod
    def of(cls, space: SearchSpace, plans: Sequence[Plan] = ()) -> Scale:
        """With what some of ``plans`` have on top: a person may have asked for others."""
        chosen = [choice for plan in plans for choice in plan.modules.values()]
        formats = {name for group in space.groups for name in group.formats}
        ranks = {rank for group in space.groups for rank in group.ranks}
        return cls(
            by_precision(formats | {choice.format for choice in chosen}),
            tuple(sorted(ranks | {choice.rank for choice in chosen} | {0})),
        )

    def format_share(self, name: str) -> float:
        """0 for the coarsest, 1 for the finest."""
        return _share(self.formats.index(name), len(self.formats))

    def rank_share(self, rank: int) -> float:
        """0 for none, 1 for the highest."""
        return _share(bisect_right(self.ranks, rank) - 1, len(self.ranks))


def _share(position: int, count: int) -> float:
    return position / (count - 1) if count > 1 else 0.0


@dataclass(frozen=True)
class GridRow:
    """Modules that have the same choices in every block."""

    label: str
    cells: tuple[Cell | None, ...]
    """By block; None where a block has no such module."""


@dataclass(frozen=True)
class PlanGrid:
    """The blocks of one stack."""

    stack: str
    """What the names of its blocks begin with; ``outside of blocks`` for the rest."""
    blocks: tuple[str, ...]
    """Their numbers."""
    rows: tuple[GridRow, ...]


def grids_of(cells: Sequence[Cell]) -> tuple[PlanGrid, ...]:
    """One grid for each stack of blocks, and one for what is outside of them."""
    stacks: dict[str, list[Cell]] = {}
    for cell in cells:
        stack = OUTSIDE if cell.block == OUTSIDE else re.sub(r"\.?\d+$", "", cell.block)
        stacks.setdefault(stack, []).append(cell)
    order = sorted(stacks, key=lambda name: name == OUTSIDE)
    return tuple(_grid(name, stacks[name]) for name in order)


def _grid(stack: str, cells: Sequence[Cell]) -> PlanGrid:
    blocks = list(dict.fromkeys(cell.block for cell in cells))
    columns: dict[str, list[Cell | None]] = {}
    for cell in cells:
        columns.setdefault(cell.column, [None] * len(blocks))[blocks.index(cell.block)] = cell
    merged: dict[tuple[tuple[str, int] | None, ...], list[str]] = {}
    for name, column in columns.items():
        merged.setdefault(tuple((c.format, c.rank) if c else None for c in column), []).append(name)
    rows = tuple(
        GridRow(_label([c for name in names for c in columns[name] if c], cells), tuple(columns[names[0]]))
        for names in merged.values()
    )
    if stack == OUTSIDE:
        return PlanGrid(stack, ("",), rows)
    numbers = tuple(match[0] if (match := re.search(r"\d+$", block)) else block for block in blocks)
    return PlanGrid(stack, numbers, rows)


def _label(members: Sequence[Cell], all_cells: Sequence[Cell]) -> str:
    """The parts of which the row has all modules, and the last names of other modules."""
    found = []
    for part in dict.fromkeys(cell.part for cell in members):
        names = dict.fromkeys(cell.column for cell in members if cell.part == part)
        if len(names) > 1 and names.keys() == {cell.column for cell in all_cells if cell.part == part}:
            found.append(part)
        else:
            found += [re.sub(r"_proj$", "", name.rpartition(".")[2]) for name in names]
    return ", ".join(found)


def shown_format(name: str) -> str:
    """In a cell: its bits, where they name it."""
    bits = FORMATS[name].bits
    return str(bits) if OF_BITS.get(bits) == name else name
