"""Rows of .jsonl and .json files, as they are written there: Arrow's types change none of their values."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
from datasets import Dataset

from jointsearch.errors import DataError, first_line
from jointsearch.training.data.table import Table

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes one of the two codes of a character, the other of which can be missing."""

_PLAIN = {str, int, float, bool}
"""Types of values that a template can write."""


def json_lines(text: str, name: str) -> Table:
    """The table of a .jsonl file; what is one list of rows after all is read as that."""
    if text.lstrip().startswith("["):
        try:
            return json_table(text, name)
        except (ValueError, RecursionError):  # lists line by line
            pass
    table = Table(name, "line")
    rows: dict[int, Any] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows[number] = _loaded(line)
            except (ValueError, RecursionError) as error:
                table.faults[number] = f"is no JSON ({first_line(error)})"
    return _of_rows(rows, table, text)


def json_table(text: str, name: str) -> Table:
    """A list of rows, a mapping of columns, or a mapping with one list of rows, as SQuAD's files have."""
    try:
        whole = _loaded(text)
    except ValueError:
        if text.lstrip().startswith("{") and len(text.split("\n", 1)) > 1:  # often .jsonl by another name
            return json_lines(text, name)
        raise
    if isinstance(whole, dict):
        values = list(whole.values())
        if _are_rows(values) and _are_positions(values):  # as pandas writes a table
            whole = {column: list(of.values()) for column, of in whole.items()}
        lists = {key: value for key, value in whole.items() if isinstance(value, list)}
        of_rows = [key for key, value in lists.items() if _are_rows(value)]
        if len(lists) == len(whole) > 0 and not of_rows:
            if len({len(values) for values in lists.values()}) > 1:
                raise ValueError("its columns have different lengths")
            num_rows = len(next(iter(lists.values())))
            return Table(name, "row", whole, list(range(1, num_rows + 1)))
        if len(of_rows) > 1:
            raise DataError(
                f"{name} must hold one list of rows, but it holds {', '.join(of_rows)}; "
                "write each into a file of its own"
            )
        whole = lists[of_rows[0]] if of_rows else [whole]
    if not isinstance(whole, list):
        raise ValueError("it must hold a list of rows")
    return _of_rows(dict(enumerate(whole, 1)), Table(name, "row"), text)


def as_dataset(columns: dict[str, list[Any]]) -> Dataset:
    """Where Arrow's types would change values, these are kept as texts if they are plain, and else as JSON:
    Arrow writes 1 as 1.0 beside 2.5, and gives every mapping of a column the keys of all."""
    return Dataset(pa.table({name: _array(values) for name, values in columns.items()}))


def _array(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values} - {type(None)}
    try:
        array = pa.array(values)
        if (kinds <= _PLAIN and len(kinds) <= 1) or json.dumps(array.to_pylist()) == json.dumps(values):
            return array
    except (pa.ArrowException, OverflowError):
        pass
    write = str if kinds <= _PLAIN else _json_of
    texts = [None if value is None else write(value) for value in values]
    return pa.array(texts, pa.string() if write is str else pa.json_())


def _json_of(value: Any) -> str:
    """With the nearest float for whole numbers that ``datasets`` cannot read."""
    return json.dumps(json.loads(json.dumps(value), parse_int=_number))


def _number(text: str) -> int | float:
    number = int(text)
    return number if -(2**63) <= number < 2**63 else float(number)


def _loaded(text: str) -> Any:
    return json.loads(text, parse_constant=_constant)


def _constant(text: str) -> float | None:
    """``NaN`` stands for a missing value, which is how pandas writes one."""
    return None if text == "NaN" else float(text)


def _are_rows(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _are_positions(columns: list[dict[str, Any]]) -> bool:
    """Whether the keys of all are the same numbers."""
    keys = list(columns[0])
    return bool(keys) and all(map(str.isdigit, keys)) and all(list(of) == keys for of in columns)


def _of_rows(rows: dict[int, Any], table: Table, text: str) -> Table:
    may_be_half = _HALF_CHARACTER.search(text) is not None
    for number, row in rows.items():
        if not isinstance(row, dict):
            table.faults[number] = "is no mapping of columns"
        elif may_be_half and _has_half_characters(row):
            table.faults[number] = (
                "has half of a character (a code from \\ud800 to \\udfff without its other)"
            )
    kept = {number: row for number, row in rows.items() if number not in table.faults}
    names = dict.fromkeys(name for row in kept.values() for name in row)
    table.columns = {name: [row.get(name) for row in kept.values()] for name in names}
    table.numbers = list(kept)
    return table


def _has_half_characters(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
