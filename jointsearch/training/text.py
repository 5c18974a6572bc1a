"""Plain text from the Hub, from files or from an installed package, packed into examples."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from jointsearch.config import DataSettings, TaskSettings
from jointsearch.errors import DataError, first_line

SPLITS = ("train", "validation", "test")
_BUILDERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def packed_splits(settings: TaskSettings, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Token ids of shape (num_examples, sequence_length) by split; raises ``DataError``.

    Documents are joined by the end-of-text token and cut into examples; what is left over is
    dropped. A missing validation or test split is cut off the training examples, drawn with
    ``split_seed``, so that no example is in two splits.
    """
    documents = _documents(settings.data)
    packed = {split: _pack(texts, settings, tokenizer, split) for split, texts in documents.items()}
    missing = [split for split in SPLITS if split not in packed]
    if missing:
        train = packed["train"]
        generator = torch.Generator().manual_seed(settings.split_seed)
        order = torch.randperm(len(train), generator=generator)
        num_held_out = max(1, round(len(train) * settings.validation_share))
        for split in missing:
            packed[split], order = train[order[:num_held_out]], order[num_held_out:]
        packed["train"] = train[order.sort().values]
    for split in SPLITS:
        if not len(packed[split]):
            raise DataError(
                f"the {split} split must hold an example of {settings.sequence_length} tokens, but it is too "
                "short; give more text or lower task.sequence_length"
            )
    return packed


def _pack(
    texts: list[str], settings: TaskSettings, tokenizer: PreTrainedTokenizerBase, split: str
) -> torch.Tensor:
    texts = [text for text in texts if text and not text.isspace()]
    if not texts:
        raise DataError(f"the {split} split of the task's data must have text, but it is empty")
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    tokens: list[int] = []
    for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
        tokens += ids + end
    num_examples = len(tokens) // settings.sequence_length
    used = torch.tensor(tokens[: num_examples * settings.sequence_length], dtype=torch.long)
    return used.view(num_examples, settings.sequence_length)


def _documents(data: DataSettings) -> dict[str, list[str]]:
    """Texts by split; splits that the data does not have are left out."""
    if data.package is not None:
        return {"train": _package_sources(data.package, data.max_bytes)}
    table = _from_hub(data) if data.hub is not None else _from_files(data)
    splits = {split: table[split] for split in SPLITS if split in table}
    if "train" not in splits:
        raise DataError(f"the data must have a train split, but it has {', '.join(table)}")
    for split, rows in splits.items():
        if data.text_column not in rows.column_names:
            raise DataError(
                f"task.data.text_column must be a column of the {split} split "
                f"({', '.join(rows.column_names)}), but got '{data.text_column}'"
            )
    return {split: _texts(rows[data.text_column], split) for split, rows in splits.items()}


def _texts(column: Any, split: str) -> list[str]:
    """The texts of a column; rows without one are left out."""
    texts = [text for text in column if text is not None]
    if wrong := next((text for text in texts if not isinstance(text, str)), None):
        raise DataError(f"the texts of the {split} split must be strings, but got {wrong!r}")
    return texts


def _from_hub(data: DataSettings) -> Any:
    import datasets

    try:
        return datasets.load_dataset(data.hub, data.config, revision=data.revision)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise DataError(f"the data set '{data.hub}' cannot be loaded: {reason}") from None


def _from_files(data: DataSettings) -> Any:
    import datasets

    files = data.files or {}
    for split, path in files.items():
        if not Path(path).is_file():
            raise DataError(f"task.data.files.{split} must be a file, but there is none at {path}")
        if not Path(path).stat().st_size:
            raise DataError(f"task.data.files.{split} must have text, but {path} is empty")
    endings = {Path(path).suffix for path in files.values()}
    if len(endings) != 1 or not endings <= _BUILDERS.keys():
        raise DataError(
            f"task.data.files must all end in one of {', '.join(_BUILDERS)}, but got {sorted(endings)}"
        )
    builder = _BUILDERS[endings.pop()]
    options = {"sample_by": "document"} if builder == "text" else {}
    try:
        return datasets.load_dataset(builder, data_files=dict(files), **options)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        reason = first_line(cause)
        raise DataError(f"the files {', '.join(files.values())} cannot be read: {reason}") from None


def _package_sources(package: str, max_bytes: int | None) -> list[str]:
    """The Python sources of an installed package, in an order that mixes its parts."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"task.data.package must be an installed package, but there is no '{package}'")
    root = Path(next(iter(spec.submodule_search_locations)))
    paths = sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    num_bytes = 0
    for path in paths:
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        num_bytes += path.stat().st_size
        if max_bytes is not None and num_bytes >= max_bytes:
            break
    return texts
