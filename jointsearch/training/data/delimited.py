"""Rows of .csv and .tsv files: every line is read, or said to be none.

The ``csv`` module reads one row after the other, so that a quote mark that is never closed costs its own
line and not those up to the next one. A column has numbers where all its values are written as numbers
are; what stands for a missing value in other programs ("NA", "None", "null", "nan") is a text.
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
from jointsearch.training.data.table import Table

MOST_LINES = 10_000
"""Of one row, whose texts have ends of lines."""

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_OTHER_SEPARATORS = ";\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")

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
        if row.fault or len(row.values) != len(header):
            columns = "1 column" if len(row.values) == 1 else f"{len(row.values)} columns"
            table.faults[row.number] = row.fault or f"has {columns} instead of {len(header)}"
        else:
            kept.append(row)
    table.numbers = [row.number for row in kept]
    values = zip(*(row.values for row in kept), strict=True) if kept else [()] * len(header)
    table.columns = {
        column: _typed(of_column, file.settings.na_values)
        for column, of_column in zip(_different(header), values, strict=True)
    }
    are_numbers = [any(isinstance(v, int | float) for v in of) for of in table.columns.values()]
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
        encoding = self.settings.encoding
        if encoding == "utf-8":
            encoding = next((of for mark, of in _MARKS if self.content.startswith(mark)), encoding)
        try:
            text = self.content.decode(encoding).replace("\r\n", "\n")
        except UnicodeError as error:
            line = self.content.count(b"\n", 0, getattr(error, "start", 0)) + 1
            raise DataError(
                f"the file {self.name} must be written in {encoding}, but line {line} is not; "
                "name its encoding, such as csv: {encoding: latin-1}"
            ) from None
        return (text if "\n" in text else text.replace("\r", "\n")).split("\n")

    @property
    def usual_separator(self) -> str:
        return "\t" if self.kind == ".tsv" else ","

    @cached_property
    def separator(self) -> str:
        if self.settings.separator is not None:
            return self.settings.separator
        first = next((line for line in self.lines if line.strip()), "")
        others = [mark for mark in _OTHER_SEPARATORS if mark in first]
        if not others or self.usual_separator in first:
            return self.usual_separator
        return max(others, key=first.count)

    @property
    def has_quoting(self) -> bool:
        return self.kind != ".tsv" if self.settings.quoting is None else self.settings.quoting

    def rows(self) -> Iterator[_Row]:
        """All rows, with that of the header; empty lines are none."""
        position = 0
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
        reader = csv.reader(part, delimiter=self.separator, strict=True)
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
    """Numbers or truths where all values are; texts otherwise."""
    given = [value for value in values if value not in missing]
    convert: Callable[[str], Any] = str
    if given and all(value in _TRUTHS for value in given):
        convert = _TRUTHS.__getitem__
    elif given and all(map(_WHOLE.fullmatch, given)):
        convert = int
    elif given and all(map(_DECIMAL.fullmatch, given)):
        convert = float
    return [None if value in missing else convert(value) for value in values]
