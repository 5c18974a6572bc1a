"""Rows of .csv and .tsv files: every line is read, or said to be none.

The ``csv`` module reads one row after the other, so that a quote mark that is never closed costs its own
line and not those up to the next one. A column has numbers where all its values are written as Python
writes numbers, so that no text made of them differs from the file's: "18.50" and "true" stay texts. So does
what stands for a missing value in other programs ("NA", "None", "null", "nan").
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from jointsearch.config.data import CsvSettings
from jointsearch.errors import DataError
from jointsearch.training.data.characters import text_of
from jointsearch.training.data.table import Table

MOST_LINES = 10_000
"""Of one row, whose texts have ends of lines."""

_OTHER_SEPARATORS = ";\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SAID_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)
"""What Excel writes and reads before the line of names."""
_TRUTHS = {"True": True, "False": False}
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_KINDS: tuple[tuple[Callable[[str], object], Callable[[str], Any]], ...] = (
    (_TRUTHS.__contains__, _TRUTHS.__getitem__),
    (_WHOLE.fullmatch, int),
    (_DECIMAL.fullmatch, float),
)

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class _Row(NamedTuple):
    number: int
    """Of its first line, from 1."""
    num_lines: int
    values: list[str]
    fault: str = ""


def read_delimited(content: bytes, kind: str, name: str, settings: CsvSettings | None) -> Table:
    """The table in the ``content`` of a .csv or .tsv (``kind``) called ``name``; raises ``DataError``."""
    file = _File(content, kind, name, settings or CsvSettings())
    table = Table(name, "line", has_header=file.settings.header is True)
    rows = list(file.rows())
    header = file.header(rows)
    table.repeated = {column for column in header if header.count(column) > 1}
    kept = []
    for row in rows:
        while len(row.values) > len(header) and not row.values[-1]:
            row.values.pop()
        if not row.fault and not any(value.strip() for value in row.values):
            continue  # as spreadsheets leave behind
        if row.fault or len(row.values) != len(header):
            columns = "1 column" if len(row.values) == 1 else f"{len(row.values)} columns"
            table.faults[row.number] = row.fault or f"has {columns} instead of {len(header)}"
        else:
            kept.append(row)
    table.numbers = [row.number for row in kept]
    values = list(zip(*(row.values for row in kept), strict=True)) if kept else [()] * len(header)
    missing = file.settings.na_values
    table.columns = {
        column: _typed(of_column, missing)
        for column, of_column in zip(_different(header), values, strict=True)
    }
    are_numbers = [
        any(value not in missing for value in of)
        and all(_DECIMAL.fullmatch(value) for value in of if value not in missing)
        for of in values
    ]
    table.notes = file.notes(kept, are_numbers)
    return table


@dataclass
class _File:
    content: bytes
    kind: str
    name: str
    settings: CsvSettings

    @cached_property
    def lines(self) -> list[str]:
        """Ended by newlines alone: what else Unicode ends lines with can be in texts."""
        fix = "name its encoding, such as csv: {encoding: latin-1}"
        text = text_of(self.content, self.name, self.settings.encoding, fix).replace("\r\n", "\n")
        return (text if "\n" in text else text.replace("\r", "\n")).split("\n")

    @property
    def usual_separator(self) -> str:
        return "\t" if self.kind == ".tsv" else ","

    @cached_property
    def separator(self) -> str:
        if self.settings.separator is not None:
            return self.settings.separator
        if said := _SAID_SEPARATOR.fullmatch(self.lines[0]):
            return said[1]
        others = [mark for mark in _OTHER_SEPARATORS if mark in self.first_line]
        if not others or self.usual_separator in self.first_line:
            return self.usual_separator
        return max(others, key=self.first_line.count)

    @cached_property
    def first_line(self) -> str:
        """That of the names, where there are any."""
        return next((line for line in self.lines[self.start :] if line.strip()), "")

    @property
    def start(self) -> int:
        return int(_SAID_SEPARATOR.fullmatch(self.lines[0]) is not None)

    @cached_property
    def has_spaces(self) -> bool:
        """Whether a space follows every separator, as the line of names shows: no value begins with it."""
        count = self.first_line.count(self.separator)
        return self.settings.header is True and 0 < count == self.first_line.count(f"{self.separator} ")

    @property
    def has_quoting(self) -> bool:
        return self.kind != ".tsv" if self.settings.quoting is None else self.settings.quoting

    def rows(self) -> Iterator[_Row]:
        """All rows, with that of the header; empty lines are none."""
        position = self.start
        while position < len(self.lines):
            row = self._row_at(position) if self.lines[position].strip("\r") else None
            if row is not None:
                yield row
            position += 1 if row is None else row.num_lines

    def _row_at(self, position: int) -> _Row:
        if not self.has_quoting:
            return _Row(position + 1, 1, self.lines[position].split(self.separator))
        last = min(position + MOST_LINES, len(self.lines))
        part = (f"{self.lines[at]}\n" for at in range(position, last))
        reader = csv.reader(part, delimiter=self.separator, strict=True, skipinitialspace=self.has_spaces)
        try:
            values = next(reader)
        except csv.Error:
            return _Row(position + 1, 1, [], "has a quote mark that is not closed, or text after one that is")
        return _Row(position + 1, reader.line_num, values)

    def header(self, rows: list[_Row]) -> list[str]:
        """The names of the columns; a line of names is taken out of ``rows``."""
        if isinstance(self.settings.header, tuple):
            return list(self.settings.header)
        if not rows:
            return []
        if not self.settings.header:
            return [str(position) for position in range(len(rows[0].values))]
        if rows[0].fault:
            raise DataError(f"the first line of {self.name} must name the columns, but it {rows[0].fault}")
        return [name.strip() for name in rows.pop(0).values]

    def notes(self, rows: list[_Row], are_numbers: list[bool]) -> list[str]:
        """What a person should look at: quote marks that may have swallowed rows, or that stay in texts."""
        notes = []
        if self.settings.separator is None and self.separator != self.usual_separator:
            notes.append(f"{self.name}: columns are separated by {self.separator!r}, as in its first line")
        if swallowed := [row.number for row in rows if self._has_rows_within(row, are_numbers)]:
            notes.append(
                f"{self.name}: quote marks make rows of several lines that look like rows themselves "
                f"({len(swallowed)}, first in line {swallowed[0]}); if they are, set csv: {{quoting: false}}"
            )
        quoted = sum(any(map(_QUOTED.fullmatch, row.values)) for row in rows) if not self.has_quoting else 0
        if self.settings.quoting is None and quoted > len(rows) / 2:
            notes.append(
                f"{self.name}: {quoted} of {len(rows)} rows have values within quote marks, which are kept; "
                "if they do not belong to the texts, set csv: {quoting: true}"
            )
        return notes

    def _has_rows_within(self, row: _Row, are_numbers: list[bool]) -> bool:
        """Whether all lines between the first and the last of a row are like rows: with as many columns, and
        numbers where the columns have them."""
        inner = [
            line.split(self.separator) for line in self.lines[row.number : row.number + row.num_lines - 2]
        ]
        return bool(inner) and all(
            1 < len(values) == len(are_numbers)
            and all(
                _DECIMAL.fullmatch(v) for v, is_number in zip(values, are_numbers, strict=True) if is_number
            )
            for values in inner
        )


def _different(names: list[str]) -> list[str]:
    """As pandas names columns that are there twice: ``a``, ``a.1``."""
    return [
        f"{name}.{before}" if (before := names[:at].count(name)) else name for at, name in enumerate(names)
    ]


def _typed(values: tuple[str, ...], missing: tuple[str, ...]) -> list[Any]:
    """Truths or numbers where all values are, and Python writes them as the file does; texts otherwise."""
    given = [value for value in values if value not in missing]
    convert: Callable[[str], Any] = str
    for is_one, of_kind in _KINDS:
        if given and all(is_one(value) and str(of_kind(value)) == value for value in given):
            convert = of_kind
            break
    return [None if value in missing else convert(value) for value in values]
