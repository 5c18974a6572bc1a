"""The data that a person names: what the study file says of it, and what a look at its first rows shows.

A name is that of a file, of a folder, ``package:NAME`` for the source of an installed package, or
``OWNER/NAME`` (or ``OWNER/NAME:CONFIG``) of a data set on the Hub. A look needs no network, so a data set
on the Hub is not looked at.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from jointsearch.errors import DataError

NUM_ROWS = 100
"""How many rows are looked at."""

SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")

OTHER_SPLITS = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What takes the place of ``train`` in the names of the files beside it."""

PACKAGE = "package:"


@dataclass(frozen=True)
class DataSource:
    """Rows to train on."""

    settings: dict[str, Any]
    """What ``task.data`` says."""
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The first values of every column; empty where the rows could not be looked at."""


def find_source(name: str, study_folder: Path) -> DataSource:
    """The data called ``name``, with paths relative to ``study_folder``; raises ``DataError``."""
    path = Path(name).expanduser()
    if path.is_file():
        return _of_files(path, study_folder)
    if path.is_dir():
        return _of_folder(path, study_folder)
    if name.startswith(PACKAGE):
        return _of_package(name.removeprefix(PACKAGE))
    hub, _, config = name.partition(":")
    if path.suffix in SUFFIXES or not re.fullmatch(r"[\w.-]+/[\w.-]+", hub) or name.startswith("."):
        raise DataError(
            "data must be a file, a folder, package:NAME, or OWNER/NAME of a data set on the Hub, "
            f"but there is no '{name}'"
        )
    return DataSource({"hub": hub} | ({"config": config} if config else {}))


def likely_data(folder: Path) -> str:
    """The data in ``folder`` that is probably meant; without any, text that is on every machine."""
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    named = [file for file in files if "train" in file.name]
    tables = [file for file in files if file.suffix not in (".txt", ".json")]
    found = named or (tables if len(tables) == 1 else [])
    return found[0].name if found else f"{PACKAGE}transformers"


def relative(path: Path, study_folder: Path) -> str:
    """``path`` as a study file in ``study_folder`` names it."""
    text = os.path.relpath(path, study_folder)
    return text if text.startswith(".") else f"./{text}"


def _of_package(name: str) -> DataSource:
    if not name.isidentifier() or find_spec(name) is None:
        raise DataError(f"{PACKAGE}NAME must name an installed package, but there is no '{name}'")
    return DataSource({"package": name, "max_bytes": 3_000_000}, {"text": ["source"]})


def _of_folder(path: Path, study_folder: Path) -> DataSource:
    arrow = sorted((path / "train").glob("*.arrow")) or sorted(path.glob("*.arrow"))
    if arrow:  # as `save_to_disk` of datasets leaves it
        return DataSource({"folder": relative(path, study_folder)}, _columns(arrow[0]))
    train = [file for suffix in SUFFIXES if (file := path / f"train{suffix}").is_file()]
    if not train:
        raise DataError(f"{path}: a folder must hold a saved data set or a file train.*, but has none")
    return _of_files(train[0], study_folder)


def _of_files(path: Path, study_folder: Path) -> DataSource:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: a file of data must end in {', '.join(SUFFIXES)}")
    files = {"train": relative(path, study_folder)}
    if "train" in path.name:
        for split, words in OTHER_SPLITS.items():
            beside = (path.with_name(path.name.replace("train", word)) for word in words)
            if found := next((file for file in beside if file.is_file()), None):
                files[split] = relative(found, study_folder)
    return DataSource({"files": files}, _columns(path))


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        rows = [row for row in islice(_rows(path), NUM_ROWS) if isinstance(row, dict)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} ({error})") from None
    if not rows:
        raise DataError(f"{path}: must have rows with named columns, but has none")
    names = dict.fromkeys(name for row in rows for name in row if name)  # a cell too many has no name
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name: values for name, values in found.items() if values}


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix in (".parquet", ".arrow"):
        yield from _arrow_rows(path)
        return
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".txt":
            yield from ({"text": line} for line in file)
        elif path.suffix in (".csv", ".tsv"):
            yield from csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t")
        elif path.suffix == ".jsonl":
            yield from (json.loads(line) for line in file if line.strip())
        else:
            whole = json.load(file)
            yield from whole if isinstance(whole, list) else [whole]


def _arrow_rows(path: Path) -> Iterable[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        batches = pq.ParquetFile(path).iter_batches(batch_size=NUM_ROWS)
    else:
        batches = iter(pa.ipc.open_stream(path))
    for batch in batches:
        yield from batch.slice(0, NUM_ROWS).to_pylist()
