"""What a study file says about its data: where the rows come from, and how they are divided."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from jointsearch.config.fields import Positive
from jointsearch.plan.record import Record

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

FILE_KINDS = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of files that rows can be read from."""

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings that may follow; what is within a .zip says its kind itself."""

DELIMITED = (".csv", ".tsv")


def file_kind(path: str) -> str:
    """The ending that says what a file's rows are, in lower case, without that of its compression."""
    name = PurePath(path.lower())
    return PurePath(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix


class CsvSettings(Record):
    """How .csv and .tsv files are written."""

    separator: str | None = None
    """What is between columns; by default a tab in .tsv files, and in others a comma, or else the semicolon,
    tab or bar that the header line has instead."""
    quoting: bool | None = None
    """Whether quote marks around a value belong to the file and not to the value, as in most .csv files; in
    .tsv files they do not, by default."""
    header: bool | tuple[str, ...] = True
    """Whether the first line names the columns; a list names those of a file without such a line, and
    without both they are ``0``, ``1``, ..."""
    encoding: str = "utf-8"
    """By its name in Python: ``latin-1``, ``cp1252``, ``utf-16``."""
    na_values: tuple[str, ...] = ("",)
    """Values that stand for a missing one; ``None``, ``NA`` and ``null`` are texts unless they are named."""

    @field_validator("separator", mode="before")
    @classmethod
    def _tab(cls, separator: object) -> object:
        separator = "\t" if separator in ("\\t", "tab") else separator
        if isinstance(separator, str) and (len(separator) != 1 or separator in '"\r\n'):
            raise ValueError(f"must be one character, such as ';' or a tab, but got {separator!r}")
        return separator

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError(
                f"must be an encoding of Python such as utf-8 or latin-1, but got {encoding!r}"
            ) from None
        return encoding

    @field_validator("header")
    @classmethod
    def _names(cls, header: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
        if isinstance(header, tuple) and (not header or len(set(header)) < len(header)):
            raise ValueError(f"must name different columns, but got {list(header)}")
        return header


class DataSettings(Record):
    """Where the rows come from: exactly one of ``hub``, ``files``, ``folder`` and ``package``."""

    hub: str | None = None
    """A data set id of the Hugging Face Hub."""
    config: str | None = None
    """The configuration of a Hub data set."""
    revision: str | None = None
    """Of the Hub: a branch, a tag or a commit."""
    files: dict[Split, str] | None = None
    """Files by split: .txt (plain text), .jsonl, .json, .csv, .tsv or .parquet, as they are
    or compressed (.gz, .bz2, .xz, .zst, .zip)."""
    csv: CsvSettings | None = None
    """How .csv and .tsv files are written, where that is not usual."""
    folder: str | None = None
    """A data set saved by ``datasets`` (``save_to_disk``), with or without splits."""
    package: str | None = None
    """An installed Python package: the rows are its own source files, in the column ``text``."""
    max_bytes: Positive | None = None
    """Read at most so much text (``package`` only)."""
    splits: dict[Split, str] | None = None
    """The names of the splits in a Hub data set or a folder; by default their own."""
    max_rows: dict[Split, Positive] = {}
    """Read at most so many rows of a split, drawn with ``split_seed`` before other splits are set aside."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the training rows set aside where a validation or test split is missing."""
    split_by: str | None = None
    """A column: rows that share its value are set aside together."""
    max_left_out: float = Field(default=0.1, ge=0, lt=1)
    """Rows that cannot be used (a value is missing, or there is nothing to learn) are left out with a note,
    up to this share of a split's; one such row is always left out, unless this is 0."""
    split_seed: int = Field(default=0, ge=0, lt=2**32)
    """Of what is drawn and set aside."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = ("hub", "files", "folder", "package")
        sources = [name for name in names if getattr(self, name) is not None]
        if len(sources) != 1:
            raise ValueError(
                f"exactly one of {', '.join(names[:-1])} and {names[-1]} must be given, but got {sources}"
            )
        belongs = {
            "config": ("hub",),
            "revision": ("hub",),
            "max_bytes": ("package",),
            "splits": ("hub", "folder"),
            "csv": ("files",),
        }
        for name, owners in belongs.items():
            if getattr(self, name) is not None and sources[0] not in owners:
                raise ValueError(
                    f"{name} belongs to {' and '.join(owners)}, but the data is from {sources[0]}"
                )
        kinds = sorted({file_kind(path) for path in (self.files or {}).values()} - {""})
        if self.csv is not None and kinds and not set(kinds) & set(DELIMITED):
            raise ValueError(f"csv belongs to .csv and .tsv files, but the files are {', '.join(kinds)}")
        for name in ("files", "splits"):
            splits = getattr(self, name)
            if splits is None:
                continue
            if "train" not in splits:
                raise ValueError(f"{name} must name a train split, but got {sorted(splits)}")
            if len(set(splits.values())) != len(splits):
                raise ValueError(f"{name} must differ, so that no row is in two splits, but got {splits}")
        return self
