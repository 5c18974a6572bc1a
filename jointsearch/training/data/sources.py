"""Where rows come from: the Hub, files, a saved folder, or the sources of a package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import datasets
from datasets import Dataset, DatasetDict

from jointsearch.config.data import SPLITS, DataSettings
from jointsearch.errors import OFFLINE, DataError, first_line
from jointsearch.training.data.files import read_file
from jointsearch.training.data.table import Table, numbered
from jointsearch.training.hub import is_out_of_reach


def read_tables(data: DataSettings) -> dict[str, Table]:
    """The table of every split that the data has, with its ``dataset``; raises ``DataError``."""
    if data.files is not None:
        return _from_files(data)
    if data.package is not None:
        name, found = data.package, DatasetDict(train=_package_sources(data.package, data.max_bytes))
    elif data.hub is not None:
        name, found = data.hub, _from_hub(data)
    else:
        name, found = Path(data.folder or "").name, _from_folder(Path(data.folder or ""))
    if data.splits is not None:
        if unknown := [split for split in data.splits.values() if split not in found]:
            raise DataError(
                f"task.data.splits must name splits of the data ({', '.join(found)}), but got {unknown}"
            )
        found = DatasetDict({split: found[own] for split, own in data.splits.items()})
    tables = {split: Table(name, "row", dataset=numbered(rows)) for split, rows in found.items()}
    if "train" in tables and (unused := [split for split in tables if split not in SPLITS]):
        tables["train"].notes.append(
            f"{name}: the data's {'split' if len(unused) == 1 else 'splits'} {', '.join(unused)} "
            f"{'is' if len(unused) == 1 else 'are'} not used; say which is which with task.data.splits, "
            f"such as {{train: train, validation: {unused[0]}}}"
        )
    return tables


def _from_hub(data: DataSettings) -> DatasetDict:
    is_out_of_reach()  # before what waits for it
    try:
        return datasets.load_dataset(data.hub, data.config, revision=data.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error)
        raise DataError(f"the data set '{data.hub}' cannot be loaded: {reason}; {OFFLINE}") from None


def _from_folder(folder: Path) -> DatasetDict:
    try:
        found = datasets.load_from_disk(str(folder))
    except IndexError:  # what datasets 5 makes of a split that was saved without rows
        raise DataError(f"the splits of the data set in {folder} must have rows, but one is empty") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"task.data.folder must hold a data set that datasets has saved, but {folder} does not: "
            f"{first_line(error)}"
        ) from None
    return found if isinstance(found, DatasetDict) else DatasetDict(train=found)


def _from_files(data: DataSettings) -> dict[str, Table]:
    files = data.files or {}
    for split, path in files.items():
        if not Path(path).is_file():
            raise DataError(f"task.data.files.{split} must be a file, but there is none at {path}")
        if not Path(path).stat().st_size:
            raise DataError(f"task.data.files.{split} must have rows, but {path} is empty")
    tables: dict[str, Table] = {}
    for split, path in files.items():
        table = tables[split] = read_file(path, data.csv)
        assert table.dataset is not None
        if not len(table.dataset) and not table.faults:
            raise DataError(f"task.data.files.{split} must have rows, but {path} has none")
    return tables


def _package_sources(package: str, max_bytes: int | None) -> Dataset:
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"task.data.package must be an installed package, but there is no '{package}'")
    root = Path(next(iter(spec.submodule_search_locations)))
    return Dataset.from_dict({"text": list(_sources(root, max_bytes))})


def _sources(root: Path, max_bytes: int | None) -> Iterator[str]:
    """The Python sources under ``root``, in an order that mixes its parts."""
    paths = sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
    Random(0).shuffle(paths)
    num_bytes = 0
    for path in paths:
        if max_bytes is not None and num_bytes >= max_bytes:
            return
        yield path.read_text(encoding="utf-8", errors="replace")
        num_bytes += path.stat().st_size
