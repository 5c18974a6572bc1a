"""Results on standard output: JSON, and tables that fit the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

TEXT_WIDTH = 24
"""What a column of words needs at least; where there is more in it, it goes on in the next line."""


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


def print_table(
    columns: Sequence[str], rows: list[list[str]], title: str | None = None, drop: Sequence[str] = ()
) -> None:
    """A table on standard output, with numbers aligned to the right; no header and no number is broken.

    On a terminal that is too narrow the columns named in ``drop`` are left out, the first one first. A
    file or a pipe has no width: it gets them all, and no line is folded.
    """
    console = Console()
    if console.is_terminal:
        columns, rows = fitting(columns, rows, console.width, drop)
    else:
        console.width = 10_000
    table = Table()
    for position, column in enumerate(columns):
        numeric = bool(rows) and _is_numeric(rows, position)
        table.add_column(
            column,
            justify="right" if numeric else "left",
            no_wrap=numeric,
            min_width=cell_len(column),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    if title:
        console.print(title, style="table.title", markup=False, highlight=False, soft_wrap=True)
    console.print(table, markup=False)


def fitting(
    columns: Sequence[str], rows: list[list[str]], width: int, drop: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """The columns, and their cells, that fit into ``width``; those in ``drop`` go in that order."""
    kept = list(range(len(columns)))
    for name in drop:
        if _needed(columns, rows, kept) <= width:
            break
        kept = [position for position in kept if columns[position] != name]
    return [columns[position] for position in kept], [[row[position] for position in kept] for row in rows]


def _needed(columns: Sequence[str], rows: list[list[str]], kept: list[int]) -> int:
    """The width of a table of these columns, its lines and spaces included."""
    return 1 + sum(3 + _column_width(columns[position], rows, position) for position in kept)


def _column_width(name: str, rows: list[list[str]], position: int) -> int:
    widest = max((cell_len(row[position]) for row in rows), default=0)
    if not _is_numeric(rows, position):
        widest = min(widest, TEXT_WIDTH)
    return max(widest, cell_len(name))


def _is_numeric(rows: list[list[str]], position: int) -> bool:
    return all(row[position][:1].isdigit() or row[position] in ("", "-") for row in rows)
