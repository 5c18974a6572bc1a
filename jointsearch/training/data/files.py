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
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset

from jointsearch.config.data import COMPRESSIONS, DELIMITED, FILE_KINDS, CsvSettings, file_kind
from jointsearch.errors import DataError, first_line
from jointsearch.training.data.characters import text_of
from jointsearch.training.data.delimited import read_delimited
from jointsearch.training.data.json_rows import as_dataset, json_lines, json_table
from jointsearch.training.data.table import Table, numbered

VERSION = 2
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
        rows = table.dataset if table.dataset is not None else as_dataset(table.columns)
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
            files = [member for member in archive.namelist() if _has_rows(member)]
            if len(files) != 1:
                raise DataError(
                    f"{path} must hold one file of {', '.join(FILE_KINDS)}, but it holds {len(files)}; "
                    "unpack it and name one of them"
                )
            return files[0], archive.read(files[0])
    return path.name, _DECOMPRESS[ending](content) if ending in _DECOMPRESS else content


def _has_rows(member: str) -> bool:
    """Whether a file of an archive is one of rows, and not what systems leave beside them."""
    is_hidden = PurePosixPath(member).name.startswith(".") or member.startswith("__MACOSX")
    return not is_hidden and file_kind(member) in FILE_KINDS


def _parsed(content: bytes, kind: str, name: str, csv: CsvSettings | None) -> Table:
    if kind in DELIMITED:
        return read_delimited(content, kind, name, csv)
    if kind == ".parquet":
        rows = Dataset(pa.parquet.read_table(pa.BufferReader(content)))
        return Table(name, "row", numbers=list(range(1, len(rows) + 1)), dataset=rows)
    text = text_of(content, name)
    if kind == ".txt":
        return Table(name, "row", {"text": [text]}, [1])
    return json_lines(text, name) if kind == ".jsonl" else json_table(text, name)
