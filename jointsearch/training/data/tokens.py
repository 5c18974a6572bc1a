"""Rows as tokens: made once, kept for other workers and studies; rows that cannot be used are left out."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from jointsearch.errors import DataError
from jointsearch.plan.record import digest
from jointsearch.training.data.rows import Rows
from jointsearch.training.data.table import NUMBER

TRUNCATED = "truncated"
"""A column of tokenized rows: whether something was cut off."""

FAULT = "fault"
"""A column of tokenized rows: why a row cannot be used, as what its line does; empty where it can."""

UNLABELLED = "has nothing to learn"
"""The beginning of the fault of a row that says nothing of what is to be learned."""

ROW = "row"
"""A column of tokenized rows, where one row gives several: its position."""

Function = Callable[[dict[str, list[Any]], list[int]], dict[str, list[Any]]]


def tokenize_splits(
    rows: Rows, function: Function, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]
) -> dict[str, Dataset]:
    """Every split of ``rows`` as ``function`` tokenizes it; what has a ``FAULT`` is left out of ``rows`` too.

    Raises ``DataError`` where too many rows cannot be used. A test split without any labels, as
    where these are kept secret, is left out as a whole.
    """
    found = {}
    for split, part in list(rows.splits.items()):
        tokens = tokenize(part, function, tokenizer, settings)
        if faults := _faults(tokens):
            kept = [position for position in range(len(part)) if position not in faults]
            numbers = part[NUMBER][:]
            is_unlabelled = not kept and all(fault.startswith(UNLABELLED) for fault in faults.values())
            if is_unlabelled and split == rows.origins[split].split == "test":
                rows.leave_out_test(f"{rows.origins[split].unit} {numbers[0]} {faults[0]}")
                continue
            rows.leave_out(split, faults)
            if kept:
                tokens = tokenize(rows.splits[split], function, tokenizer, settings)
        found[split] = tokens.remove_columns(FAULT)
    rows.check_faults()
    return found


def _faults(tokens: Dataset) -> dict[int, str]:
    """By position of the row."""
    faults = tokens[FAULT][:]
    positions = tokens[ROW][:] if ROW in tokens.column_names else range(len(faults))
    return {position: fault for position, fault in zip(positions, faults, strict=True) if fault}


def tokenize(
    rows: Dataset, function: Function, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]
) -> Dataset:
    """``function`` of batches of rows and their indices, kept in the cache of ``datasets`` for other
    workers and studies.

    What it depends on is in ``settings``, the tokenizer, and the folder of its file.
    """
    sources = sorted(Path(inspect.getfile(function)).parent.glob("*.py"))
    key = digest(
        {
            "rows": rows._fingerprint,
            "tokenizer": _tokenizer_digest(tokenizer),
            "settings": dict(settings),
            "function": function.__qualname__,
            "source": [source.read_text(encoding="utf-8") for source in sources],
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
