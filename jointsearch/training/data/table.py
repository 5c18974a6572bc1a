"""A table as it was read: its rows, where each of them is in its file, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset

NUMBER = "jointsearch: number in the file"
"""A column of loaded rows: the line or row of the file that it was read from, from 1."""

NUM_NAMED = 3
"""Rows that a message names one by one."""


@dataclass
class Origin:
    """A file, or a split of a data set, that rows are of; and those of its rows that cannot be used."""

    split: str
    name: str
    unit: Literal["line", "row"]
    num_rows: int
    faults: dict[int, str] = field(default_factory=dict)
    """What is wrong, by number."""

    def named_faults(self) -> str:
        """The first of them: ``line 7 of a.csv has no text, line 9 ...``."""
        shown = [
            f"{self.unit} {number}{f' of {self.name}' if first else ''} {self.faults[number]}"
            for first, number in zip((True, False, False), sorted(self.faults), strict=False)
        ]
        return ", ".join(shown[:NUM_NAMED]) + (", …" if len(self.faults) > NUM_NAMED else "")


@dataclass
class Table:
    """Columns of one length."""

    name: str
    unit: Literal["line", "row"]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    """Of each row in the file, from 1."""
    faults: dict[int, str] = field(default_factory=dict)
    """Of rows that could not be read, by number."""
    repeated: set[str] = field(default_factory=set)
    """Names that several columns have."""
    has_header: bool = False
    """Whether the columns' names were taken from the file's first line."""
    notes: list[str] = field(default_factory=list)
    dataset: Dataset | None = None
    """The rows themselves, where another library has read them."""


def numbered(rows: Dataset, numbers: list[int] | None = None) -> Dataset:
    """``rows`` with their ``NUMBER``: their position from 1, unless it is given."""
    return rows.add_column(NUMBER, numbers or list(range(1, len(rows) + 1)))


def data_columns(rows: Dataset) -> list[str]:
    """The columns that the data itself has."""
    return [name for name in rows.column_names if name != NUMBER]
