"""Rows by split, with ``datasets``: loaded, set aside where a split is missing, tokenized once.

No row is in two splits: where a data set repeats itself, what the test split has is taken out of
the others, and what the validation split has out of the training rows.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, DatasetDict
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from jointsearch.config.data import SPLITS, DataSettings
from jointsearch.errors import OFFLINE, DataError, first_line
from jointsearch.plan.record import digest

TRUNCATED = "truncated"
"""A column of tokenized rows: whether something was cut off."""

_BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".txt": ("text", {"sample_by": "document"}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".parquet": ("parquet", {}),
}


@dataclass
class Rows:
    """The rows of each split, and what a person should know about them."""

    splits: dict[str, Dataset]
    notes: list[str] = field(default_factory=list)


def load_rows(
    data: DataSettings, columns: Mapping[str, list[str]], inputs: tuple[str, ...], *, whole: bool = True
) -> Rows:
    """Rows by split; raises ``DataError``.

    ``columns`` are the columns that each setting of the task names, ``inputs`` the settings whose
    columns make two rows the same. With ``whole`` False, missing splits stay missing and rows may
    repeat: packed text is divided by examples.
    """
    table = _load(data)
    rows = Rows({split: table[split] for split in SPLITS if split in table})
    if "train" not in rows.splits:
        raise DataError(
            f"the data must have a train split, but it has {', '.join(table)}; "
            "name its splits with task.data.splits or task.data.files"
        )
    for split, part in rows.splits.items():
        named = [(setting, column) for setting, names in columns.items() for column in names]
        if data.split_by is not None:
            named.append(("data.split_by", data.split_by))
        for setting, column in named:
            if column not in part.column_names:
                raise DataError(
                    f"task.{setting} must name columns of the {split} split "
                    f"({', '.join(part.column_names)}), but got '{column}'"
                )
        if not len(part):
            raise DataError(f"the {split} split of the task's data must have rows, but it is empty")
    _keep_at_most(rows, data)  # first: what is not used need not be looked at
    if whole:
        names = [column for setting in inputs for column in columns[setting]]
        _take_out_repeated(rows, names)
        _set_aside_missing(rows, data, names)
        if data.split_by is not None:  # two groups may share a row
            _take_out_repeated(rows, names)
        _keep_at_most(rows, data)  # of the splits that were set aside
        # sorted files are common: the first rows of this order are a sample
        order = np.random.default_rng(data.split_seed).permutation(len(rows.splits["validation"]))
        rows.splits["validation"] = rows.splits["validation"].select(order)
    return rows


def tokenize(
    rows: Dataset,
    function: Callable[[dict[str, list[Any]], list[int]], dict[str, list[Any]]],
    tokenizer: PreTrainedTokenizerBase,
    settings: Mapping[str, Any],
) -> Dataset:
    """``function`` of batches of rows and their indices, kept in the cache of ``datasets`` for other
    workers and studies.

    What it depends on is in ``settings``, the tokenizer, and the file that it is in.
    """
    key = digest(
        {
            "rows": rows._fingerprint,
            "tokenizer": _tokenizer_digest(tokenizer),
            "settings": dict(settings),
            "function": function.__qualname__,
            "source": Path(inspect.getfile(function)).read_text(encoding="utf-8"),
        }
    )
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "jointsearch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            return rows.map(
                function,
                batched=True,
                with_indices=True,
                remove_columns=rows.column_names,
                cache_file_name=str(folder / f"{key}.arrow"),
                new_fingerprint=key,
                load_from_cache_file=True,
            )
    except OSError as error:
        raise DataError(
            f"tokenized data is kept in {folder}, but it cannot be written ({error.strerror}); set HF_HOME"
        ) from None


def truncation_notes(splits: Mapping[str, Dataset], limit: int | str) -> list[str]:
    """How many rows of each split were cut to ``limit`` tokens, where there are any."""
    notes = []
    for split, rows in splits.items():
        cut = int(np.sum(rows.with_format("numpy")[TRUNCATED])) if len(rows) else 0
        if cut:
            notes.append(f"{split}: {cut} of {len(rows)} rows are cut to {limit} tokens")
    return notes


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    if backend is not None:  # left by the last call of the tokenizer, whatever it was for
        del content["truncation"], content["padding"]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    text = json.dumps([content, special, getattr(tokenizer, "chat_template", None)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _keep_at_most(rows: Rows, data: DataSettings) -> None:
    """A sample of the splits that have more rows than asked for, in their order."""
    for split, most in data.max_rows.items():
        part = rows.splits.get(split)
        if part is not None and most < len(part):
            chosen = np.random.default_rng(data.split_seed).permutation(len(part))[:most]
            rows.splits[split] = part.select(np.sort(chosen))


def _keys(rows: Dataset, columns: list[str]) -> list[bytes]:
    """Equal for rows that share the values of all columns."""
    return [
        hashlib.blake2b(json.dumps(values, default=str).encode(), digest_size=16).digest()
        for values in zip(*(rows[column] for column in columns), strict=True)
    ]


def _take_out_repeated(rows: Rows, columns: list[str]) -> None:
    """Leave a row whose inputs are in a later split (test after validation after train) to that one."""
    seen: set[bytes] = set()
    for split in reversed(SPLITS):
        if split not in rows.splits:
            continue
        part = rows.splits[split]
        keys = _keys(part, columns)
        kept = [position for position, key in enumerate(keys) if key not in seen]
        if taken := len(part) - len(kept):
            if not kept:
                raise DataError(f"every row of the {split} split is in another split too; give other rows")
            rows.splits[split] = part.select(kept)
            rows.notes.append(
                f"{split}: {taken} of {len(part)} rows are left out, being in another split too"
            )
        seen |= set(keys)


def _set_aside_missing(rows: Rows, data: DataSettings, columns: list[str]) -> None:
    """Cut validation and test, where they are missing, off the training rows; rows that share their
    inputs stay together."""
    missing = [split for split in SPLITS if split not in rows.splits]
    if not missing:
        return
    train = rows.splits["train"]
    groups: dict[bytes, list[int]] = {}
    for position, key in enumerate(_keys(train, columns if data.split_by is None else [data.split_by])):
        groups.setdefault(key, []).append(position)
    order = list(groups.values())
    Random(data.split_seed).shuffle(order)
    num_held_out = max(1, round(len(train) * data.validation_share))
    for split in missing:
        chosen: list[int] = []
        while order and len(chosen) < num_held_out:
            chosen += order.pop()
        rows.splits[split] = train.select(sorted(chosen))
    rest = sorted(position for group in order for position in group)
    if not rest:
        raise DataError(
            f"the train split must have rows left after {' and '.join(missing)} are set aside, "
            f"but it has {len(train)}; give more rows"
        )
    rows.splits["train"] = train.select(rest)


def _load(data: DataSettings) -> DatasetDict:
    if data.package is not None:
        return DatasetDict(train=_package_sources(data.package, data.max_bytes))
    if data.hub is not None:
        table = _from_hub(data)
    elif data.folder is not None:
        table = _from_folder(Path(data.folder))
    else:
        table = _from_files(data)
    if data.splits is None:
        return table
    if unknown := [name for name in data.splits.values() if name not in table]:
        raise DataError(
            f"task.data.splits must name splits of the data ({', '.join(table)}), but got {unknown}"
        )
    return DatasetDict({split: table[name] for split, name in data.splits.items()})


def _from_hub(data: DataSettings) -> DatasetDict:
    try:
        return datasets.load_dataset(data.hub, data.config, revision=data.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error)
        raise DataError(f"the data set '{data.hub}' cannot be loaded: {reason}; {OFFLINE}") from None


def _from_folder(folder: Path) -> DatasetDict:
    try:
        table = datasets.load_from_disk(str(folder))
    except IndexError:  # what datasets 5 makes of a split that was saved without rows
        raise DataError(f"the splits of the data set in {folder} must have rows, but one is empty") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"task.data.folder must hold a data set that datasets has saved, but {folder} does not: "
            f"{first_line(error)}"
        ) from None
    return table if isinstance(table, DatasetDict) else DatasetDict(train=table)


def _from_files(data: DataSettings) -> DatasetDict:
    files = data.files or {}
    for split, path in files.items():
        if not Path(path).is_file():
            raise DataError(f"task.data.files.{split} must be a file, but there is none at {path}")
        if not Path(path).stat().st_size:
            raise DataError(f"task.data.files.{split} must have rows, but {path} is empty")
    endings = {Path(path).suffix for path in files.values()}
    if len(endings) != 1 or not endings <= _BUILDERS.keys():
        raise DataError(
            f"task.data.files must all end in one of {', '.join(_BUILDERS)}, but got {sorted(endings)}"
        )
    builder, options = _BUILDERS[endings.pop()]
    table = DatasetDict()
    for split, path in files.items():  # one by one: each has columns of its own
        try:
            table[split] = datasets.load_dataset(builder, data_files=path, split="train", **options)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            cause = error.__cause__ or error
            if "corresponds to no data" in str(cause):
                raise DataError(f"task.data.files.{split} must have rows, but {path} has none") from None
            raise DataError(f"the file {path} cannot be read: {first_line(cause)}") from None
    return table


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
