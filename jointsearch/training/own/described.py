"""What a study keeps of objects that live in memory: names, digests, and how long a trial is.

A study goes on with objects of the same names and digests; others are refused, with what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

NUM_DIGESTED = 16
"""Rows of a data set, and tensors of a model, that stand for the whole in its digest."""

PLACES = ("output_dir", "logging_dir", "run_name", "seed", "data_seed", "disable_tqdm")
"""Arguments that are a machine's, or that a trial sets."""


def differing(arguments: TrainingArguments) -> dict[str, Any]:
    """The arguments that differ from their class's defaults and change what is trained."""
    plain = (str, int, float, bool, list, type(None))
    default = {field.name: field.default for field in fields(arguments)}
    return {
        name: value
        for name, value in arguments.to_dict().items()
        if name not in PLACES and isinstance(value, plain) and value != default.get(name)
    }


def trial_settings(arguments: TrainingArguments) -> dict[str, Any]:
    """What the arguments say of a trial, in the words of a study's ``calibration``."""
    steps: dict[str, Any] = {}
    if arguments.max_steps > 0:
        warmup = min(arguments.max_steps, arguments.get_warmup_steps(arguments.max_steps))
        steps = {"steps": arguments.max_steps, "warmup_steps": warmup}
    return {
        **steps,
        "batch_size": arguments.per_device_train_batch_size,
        "learning_rate": arguments.learning_rate,
        "weight_decay": arguments.weight_decay,
    }


def model_digest(model: PreTrainedModel) -> str:
    """Of some weights of some tensors."""
    tensors = list(model.state_dict().values())
    chosen = tensors[:: max(1, len(tensors) // NUM_DIGESTED)]
    return digest_of(tensor.flatten()[:64].float().tolist() for tensor in chosen)


def rows_digest(rows: Any) -> str:
    """Of the number of rows and, of ``datasets``' data sets, of some of them."""
    few: Any = ()
    if isinstance(rows, Dataset):
        few = rows.select(range(0, len(rows), max(1, len(rows) // NUM_DIGESTED)))
    return digest_of([len(rows), *map(str, few)])


def digest_of(parts: Iterable[Any]) -> str:
    text = hashlib.sha256()
    for part in parts:
        text.update(repr(part).encode())
    return text.hexdigest()[:16]


def name_of(thing: Any) -> str:
    """``package.module.name``."""
    return f"{thing.__module__}.{thing.__qualname__}"
