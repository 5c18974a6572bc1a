"""What a study file says about its data: where the rows come from, and how they are divided."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.fields import Positive
from jointsearch.plan.record import Record

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DataSettings(Record):
    """Where the rows come from: exactly one of ``hub``, ``files``, ``folder`` and ``package``."""

    hub: str | None = None
    """A data set id of the Hugging Face Hub."""
    config: str | None = None
    """The configuration of a Hub data set."""
    revision: str | None = None
    """Of the Hub: a branch, a tag or a commit."""
    files: dict[Split, str] | None = None
    """Files by split: .txt (plain text), .jsonl, .json, .csv, .tsv or .parquet."""
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
        }
        for name, owners in belongs.items():
            if getattr(self, name) is not None and sources[0] not in owners:
                raise ValueError(
                    f"{name} belongs to {' and '.join(owners)}, but the data is from {sources[0]}"
                )
        for name in ("files", "splits"):
            splits = getattr(self, name)
            if splits is None:
                continue
            if "train" not in splits:
                raise ValueError(f"{name} must name a train split, but got {sorted(splits)}")
            if len(set(splits.values())) != len(splits):
                raise ValueError(f"{name} must differ, so that no row is in two splits, but got {splits}")
        return self
