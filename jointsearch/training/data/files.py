"""Rows of files, by kind: text, JSON, tables, compressed or not.

A file is read as a whole, and what is kept of it in caches goes by its content: a file that was replaced
is read anew, whatever its time of change says.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset

from jointsearch.config.data import COMPRESSIONS, DELIMITED, FILE_KINDS, CsvSettings, file_kind
from jointsearch.errors import DataError, first_line
from jointsearch.training.data.delimited import read_delimited
from jointsearch.training.data.table import Table, numbered

VERSION = 1
"""Of how files are read; another one makes what was tokenized before of no use."""

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RecursionError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
)

_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": lambda content: pa.input_stream(pa.py_buffer(content), compression="zstd").read(),
}


def read_file(path: str, csv: CsvSettings | None) -> Table:
    """The table in a file; raises ``DataError``."""
    try:
        name, content = _content(Path(path))
        kind = file_kind(name)
        if kind not in FILE_KINDS:
            raise DataError(
                f"task.data.files must end in one of {', '.join(FILE_KINDS)}, or that and one of "
                f"{', '.join(COMPRESSIONS)}, but got {path}"
            )
        table = _parsed(content, kind, Path(path).name, csv)
        rows = table.dataset if table.dataset is not None else _as_dataset(table.columns)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"the file {path} cannot be read: {first_line(error)}") from None
    rows._fingerprint = hashlib.sha256(
        json.dumps([VERSION, kind, csv and csv.model_dump()]).encode() + content
    ).hexdigest()[:32]
    if len(rows):
        rows = numbered(rows, table.numbers)
    table.dataset = rows
    return table


def _content(path: Path) -> tuple[str, bytes]:
    """The name that says what a file is, and what is in it."""
    content = path.read_bytes()
    ending = path.suffix.lower()
    if ending == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [
                member
                for member in archive.namelist()
                if not member.endswith("/") and not member.startswith("__MACOSX")
            ]
            if len(files) != 1:
                raise DataError(f"{path} must hold one file, but it holds {len(files)}; name one of them")
            return files[0], archive.read(files[0])
    return path.name, _DECOMPRESS[ending](content) if ending in _DECOMPRESS else content


def _parsed(content: bytes, kind: str, name: str, csv: CsvSettings | None) -> Table:
    if kind in DELIMITED:
        return read_delimited(content, kind, name, csv)
    if kind == ".parquet":
        rows = Dataset(pa.parquet.read_table(pa.BufferReader(content)))
        return Table(name, "row", numbers=list(range(1, len(rows) + 1)), dataset=rows)
    text = content.decode("utf-8-sig")
    if kind == ".txt":
        return Table(name, "row", {"text": [text]}, [1])
    return _json_lines(text, name) if kind == ".jsonl" else _json(text, name)


def _json(text: str, name: str) -> Table:
    """A list of rows, a mapping of columns, or a mapping with one list of rows, as SQuAD's files have."""
    try:
        whole = json.loads(text, parse_int=_number)
    except ValueError:
        if text.lstrip().startswith("{") and len(text.split("\n", 1)) > 1:  # often .jsonl by another name
            return _json_lines(text, name)
        raise
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        if len(lists) == len(whole) > 0 and not _are_rows(lists[0]):
            if len({len(values) for values in lists}) > 1:
                raise ValueError("its columns have different lengths")
            return Table(name, "row", whole, list(range(1, len(lists[0]) + 1)))
        whole = next((values for values in lists if _are_rows(values)), [whole])
    if not isinstance(whole, list):
        raise ValueError("it must hold a list of rows")
    return _of_rows(dict(enumerate(whole, 1)), Table(name, "row"))


def _json_lines(text: str, name: str) -> Table:
    table = Table(name, "line")
    rows: dict[int, Any] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows[number] = json.loads(line, parse_int=_number)
            except ValueError as error:
                table.faults[number] = f"is no JSON ({first_line(error)})"
    return _of_rows(rows, table)


def _number(text: str) -> int | float:
    """A whole number, or the nearest one where no column of a table can hold it."""
    number = int(text) if len(text) < 20 else float(text)
    return number if -(2**63) <= number < 2**63 else float(number)


def _are_rows(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _of_rows(rows: dict[int, Any], table: Table) -> Table:
    for number, row in rows.items():
        if not isinstance(row, dict):
            table.faults[number] = "is no mapping of columns"
    kept = {number: row for number, row in rows.items() if number not in table.faults}
    names = dict.fromkeys(name for row in kept.values() for name in row)
    table.columns = {name: [row.get(name) for row in kept.values()] for name in names}
    table.numbers = list(kept)
    return table


def _as_dataset(columns: dict[str, list[Any]]) -> Dataset:
    """Values of several types in one column, which Arrow has no type for, are kept as JSON."""
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except pa.ArrowException:
            texts = [None if value is None else json.dumps(value) for value in values]
            arrays[name] = pa.array(texts, pa.json_())
    return Dataset(pa.table(arrays))
