"""The data of a task: read from files, folders and the Hub, divided into splits, tokenized once."""

from jointsearch.training.data.rows import Rows, load_rows
from jointsearch.training.data.table import NUMBER
from jointsearch.training.data.tokens import (
    FAULT,
    ROW,
    TRUNCATED,
    UNLABELLED,
    tokenize,
    tokenize_splits,
    truncation_notes,
)

__all__ = [
    "FAULT",
    "NUMBER",
    "ROW",
    "TRUNCATED",
    "UNLABELLED",
    "Rows",
    "load_rows",
    "tokenize",
    "tokenize_splits",
    "truncation_notes",
]
