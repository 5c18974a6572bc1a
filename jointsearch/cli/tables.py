"""Results on standard output: JSON, and tables that fit the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from jointsearch.errors import visible

TEXT_WIDTH = 28
"""What a column of words needs at least; where there is more in it, it goes on in the next line."""

Rows = list[list[str]]


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Rows, title: str = "", drop: Sequence[str] = ()) -> None:
    """One table; see ``print_tables``."""
    print_tables(columns, {title: rows}, drop)


def print_tables(columns: Sequence[str], tables: Mapping[str, Rows], drop: Sequence[str] = ()) -> None:
    """Tables of the same columns on standard output, by title; no header and no number is broken.

    On a terminal that is too narrow the columns named in ``drop`` are left out, the first one first. A
    file or a pipe has no width: it gets them all, and no line is folded.
    """
    console = Console()
    shown = list(range(len(columns)))
    if console.is_terminal:
        shown = fitting(columns, [row for rows in tables.values() for row in rows], console.width, drop)
    else:
        console.width = 10_000
    for title, rows in tables.items():
        table = Table()
        for position in shown:
            numeric = _is_numeric(rows, position)
            table.add_column(
                visible(columns[position]),
                justify="right" if numeric else "left",
                no_wrap=numeric and _widest(rows, position) <= TEXT_WIDTH,
                min_width=cell_len(columns[position]),
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(visible(row[position], keep="\n") for position in shown))
        if title:
            console.print(visible(title), style="table.title", markup=False, highlight=False, soft_wrap=True)
        console.print(table, markup=False)


def fitting(columns: Sequence[str], rows: Rows, width: int, drop: Sequence[str]) -> list[int]:
    """The positions of the columns that fit into ``width``; those in ``drop`` go in that order."""
    shown = list(range(len(columns)))
    for name in drop:
        if _needed(columns, rows, shown) <= width:
            break
        shown = [position for position in shown if columns[position] != name]
    return shown


def _needed(columns: Sequence[str], rows: Rows, shown: Sequence[int]) -> int:
    """The width of a table of these columns, with a line and two spaces for each."""
    widths = (max(cell_len(columns[at]), min(_widest(rows, at), TEXT_WIDTH)) for at in shown)
    return 1 + sum(3 + width for width in widths)


def _widest(rows: Rows, position: int) -> int:
    return max((cell_len(row[position]) for row in rows), default=0)


def _is_numeric(rows: Rows, position: int) -> bool:
    cells = [row[position] for row in rows]
    return bool(cells) and all(cell[:1].isdigit() or cell in ("", "-") for cell in cells)
