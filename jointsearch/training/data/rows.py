"""Rows by split: loaded, numbered as in their files, set aside where a split is missing.

No row is in two splits: where a data set repeats itself, what the test split has is taken out of
the others, and what the validation split has out of the training rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
from datasets import Dataset

from jointsearch.config.data import SPLITS, DataSettings
from jointsearch.config.template import as_text
from jointsearch.errors import DataError, one_line
from jointsearch.training.data.sources import read_tables
from jointsearch.training.data.table import NUMBER, Origin, Table, data_columns


@dataclass
class Rows:
    """The rows of each split, and what a person should know about them."""

    splits: dict[str, Dataset]
    """With their ``NUMBER``."""
    notes: list[str] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    """Where the rows of each split are from; splits that were set aside have that of the training rows."""
    max_left_out: float = 0.0
    """Share of an origin's rows that may be left out because they cannot be used."""
    has_no_test: bool = False
    """Whether there is a test split that cannot be used, having no labels."""

    def leave_out_test(self, reason: str) -> None:
        """Do without the test split, of which no row can be used."""
        self.splits.pop("test", None)
        self.has_no_test = True
        self.notes.append(
            f"test: no row can be used ({reason}), so that nothing is measured on the test split"
        )

    def leave_out(self, split: str, faults: Mapping[int, str]) -> None:
        """Do without the rows of a split that cannot be used: what is wrong with each, by its position."""
        if faults:
            part = self.splits[split]
            numbers = part[NUMBER][:]
            self.origins[split].faults |= {numbers[position]: fault for position, fault in faults.items()}
            self.splits[split] = part.select([at for at in range(len(part)) if at not in faults])

    def leave_out_what_is_no_text(self, column: str) -> None:
        """Of what has no value nothing is made, as of empty lines."""
        for split, part in self.splits.items():
            is_text = getattr(part.features[column], "dtype", None) in ("string", "large_string")
            faults = {
                position: f"has {one_line(repr(value), 60)} in '{column}', which is no text"
                for position, value in enumerate([] if is_text else part[column])
                if value is not None and as_text(value) is None
            }
            self.leave_out(split, faults)

    def check_share(self) -> None:
        """Raise ``DataError`` where too many rows cannot be used."""
        for origin in self.origins.values():
            num_faults = len(origin.faults)
            if num_faults > max(self.max_left_out > 0, self.max_left_out * origin.num_rows):
                raise DataError(
                    f"at most {self.max_left_out:.0%} of the rows of the {origin.split} split may be left "
                    f"out, but {num_faults} of {origin.num_rows} cannot be used: {origin.named_faults()}; "
                    "correct them, or raise task.data.max_left_out"
                )

    def check_faults(self) -> None:
        """Say which rows are left out; raises ``DataError`` where these are too many, or all of a split."""
        self.check_share()
        for split, part in self.splits.items():
            if not len(part):
                raise DataError(
                    f"the {split} split must have rows that can be used, but it has none: "
                    f"{self.origins[split].named_faults()}"
                )
        for split, origin in self.origins.items():
            if origin.split == split and origin.faults:
                count = len(origin.faults)
                self.notes.append(
                    f"{split}: {count} of {origin.num_rows} rows {'is' if count == 1 else 'are'} left out: "
                    f"{origin.named_faults()}"
                )


def load_rows(
    data: DataSettings, columns: Mapping[str, list[str]], inputs: tuple[str, ...], *, whole: bool = True
) -> Rows:
    """Rows by split; raises ``DataError``.

    ``columns`` are the columns that each setting of the task names, ``inputs`` the settings whose
    columns make two rows the same. With ``whole`` False, missing splits stay missing and rows may
    repeat: packed text is divided by examples.
    """
    tables = read_tables(data)
    if "train" not in tables:
        raise DataError(
            f"the data must have a train split, but it has {', '.join(tables)}; "
            "name its splits with task.data.splits or task.data.files"
        )
    rows = Rows({}, max_left_out=data.max_left_out)
    needed = dict(columns)
    if data.split_by is not None:
        needed["data.split_by"] = [data.split_by]
    for split in SPLITS:
        if split not in tables:
            continue
        table = tables[split]
        assert table.dataset is not None
        missing = _missing_columns(table, needed)
        if missing and split == "test" and not missing & {*inputs, "data.split_by"}:
            rows.leave_out_test(f"{table.name} has no column for {', '.join(sorted(missing))}")
            continue
        num_rows = len(table.dataset) + len(table.faults)
        if not num_rows:
            raise DataError(f"the {split} split of the task's data must have rows, but it is empty")
        rows.origins[split] = Origin(split, table.name, table.unit, num_rows, dict(table.faults))
        rows.splits[split] = table.dataset
        rows.notes += [f"{split}: {note}" for note in table.notes]
        rows.check_share()
        if not len(table.dataset):
            rows.check_faults()
        _check_columns(split, table, needed)
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


def _missing_columns(table: Table, needed: Mapping[str, list[str]]) -> set[str]:
    """The settings that name columns which the table lacks."""
    assert table.dataset is not None
    found = data_columns(table.dataset)
    return {setting for setting, names in needed.items() if not set(names) <= set(found)}


def _check_columns(split: str, table: Table, needed: Mapping[str, list[str]]) -> None:
    assert table.dataset is not None
    found = data_columns(table.dataset)
    for setting, names in needed.items():
        for column in names:
            if column not in found:
                hint = (
                    f"; if {table.name} has no line of names, give them: csv: {{header: [...]}}"
                    if table.has_header
                    else ""
                )
                raise DataError(
                    f"task.{setting} must name columns of the {split} split "
                    f"({', '.join(found)}), but got '{column}'{hint}"
                )
            if column in table.repeated:
                raise DataError(
                    f"task.{setting} must name one column, but {table.name} has several called '{column}'; "
                    "rename them"
                )


def _keep_at_most(rows: Rows, data: DataSettings) -> None:
    """A sample of the splits that have more rows than asked for, in their order."""
    for split, most in data.max_rows.items():
        part = rows.splits.get(split)
        if part is not None and most < len(part):
            chosen = np.random.default_rng(data.split_seed).permutation(len(part))[:most]
            rows.splits[split] = part.select(np.sort(chosen))
            if rows.origins[split].split == split:
                rows.origins[split].num_rows = most + len(rows.origins[split].faults)


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
    missing = [
        split for split in SPLITS if split not in rows.splits and not (split == "test" and rows.has_no_test)
    ]
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
        rows.origins[split] = rows.origins["train"]
    rest = sorted(position for group in order for position in group)
    if not rest:
        raise DataError(
            f"the train split must have rows left after {' and '.join(missing)} are set aside, "
            f"but it has {len(train)}; give more rows"
        )
    rows.splits["train"] = train.select(rest)
