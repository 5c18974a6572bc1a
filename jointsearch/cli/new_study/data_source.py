"""The data that a person names: what the study file says of it, and what a look at its first rows shows.

A name is that of a file, of a folder, ``package:NAME`` for the source of an installed package, or
``OWNER/NAME`` (or ``OWNER/NAME:CONFIG``) of a data set on the Hub. A look needs no network, so a data set
on the Hub is not looked at.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from jointsearch.config.data import COMPRESSIONS, FILE_KINDS, file_kind
from jointsearch.errors import DataError, first_line

NUM_ROWS = 100
"""How many rows are looked at."""

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
    if file_kind(name) in FILE_KINDS or not re.fullmatch(r"[\w.-]+/[\w.-]+", hub) or name.startswith("."):
        raise DataError(
            "data must be a file, a folder, package:NAME, or OWNER/NAME of a data set on the Hub, "
            f"but there is no '{name}'"
        )
    return DataSource({"hub": hub} | ({"config": config} if config else {}))


def likely_data(folder: Path) -> str:
    """The data in ``folder`` that is probably meant; without any, text that is on every machine."""
    files = sorted(file for file in folder.iterdir() if file_kind(file.name) in FILE_KINDS)
    named = [file for file in files if "train" in file.name]
    tables = [file for file in files if file_kind(file.name) not in (".txt", ".json")]
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
        return DataSource(
            {"folder": relative(path, study_folder)}, _named(arrow[0], _first_of_arrow(arrow[0]))
        )
    names = [f"train{kind}{packed}" for kind in FILE_KINDS for packed in ("", *COMPRESSIONS)]
    train = [file for name in names if (file := path / name).is_file()]
    if not train:
        raise DataError(f"{path}: a folder must hold a saved data set or a file train.*, but has none")
    return _of_files(train[0], study_folder)


def _of_files(path: Path, study_folder: Path) -> DataSource:
    if file_kind(path.name) not in FILE_KINDS and path.suffix.lower() != ".zip":
        raise DataError(
            f"{path}: a file of data must end in {', '.join(FILE_KINDS)}, or that and one of "
            f"{', '.join(COMPRESSIONS)}"
        )
    files = {"train": relative(path, study_folder)}
    if "train" in path.name:
        for split, words in OTHER_SPLITS.items():
            beside = (path.with_name(path.name.replace("train", word)) for word in words)
            if found := next((file for file in beside if file.is_file()), None):
                files[split] = relative(found, study_folder)
    return DataSource({"files": files}, _named(path, _first_of_file(path)))


def _named(path: Path, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of every column that has any."""
    if not rows:
        raise DataError(f"{path}: must have rows with named columns, but has none")
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name: values for name, values in found.items() if values}


def _first_of_file(path: Path) -> list[dict[str, Any]]:
    """As a study reads them."""
    from jointsearch.training.data.files import read_file
    from jointsearch.training.data.table import data_columns

    table = read_file(str(path), None)
    assert table.dataset is not None
    if table.faults and not len(table.dataset):
        number, fault = min(table.faults.items())
        raise DataError(f"{path}: must have rows that can be read, but {table.unit} {number} {fault}")
    rows = table.dataset.select_columns(data_columns(table.dataset))
    return [dict(row) for row in islice(rows, NUM_ROWS)]


def _first_of_arrow(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa

    try:
        batches = pa.ipc.open_stream(path)
        return [row for batch in batches for row in batch.slice(0, NUM_ROWS).to_pylist()][:NUM_ROWS]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as arrow ({first_line(error)})") from None
