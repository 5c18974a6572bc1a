"""The largest batch that a task can give a model, as far as its settings say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers import PreTrainedModel

from jointsearch.config.task import TaskBase
from jointsearch.training.tasks.limits import positions_of, within

LENGTHS = {
    "sequence_length": "input_ids",
    "max_length": "input_ids",
    "max_source_length": "input_ids",
    "max_target_length": "labels",
}
"""Settings of tasks, and whose length in a batch they are."""


def lengths_of(task: TaskBase, model: PreTrainedModel) -> dict[str, int]:
    """Tokens of the longest example, by what they are called in a batch; empty where nobody can know."""
    tokenizer: Any = SimpleNamespace(model_max_length=2**30)
    task, _ = within(task, positions_of(model, tokenizer))
    return {batch: getattr(task, name) for name, batch in LENGTHS.items() if hasattr(task, name)}


def example_batch(task: TaskBase, lengths: dict[str, int], batch_size: int) -> dict[str, torch.Tensor]:
    """Token 0 everywhere; one example is padded where the task's examples can be."""
    ids = torch.zeros(batch_size, lengths["input_ids"], dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    match task.type:
        case "causal-lm":
            packed = getattr(task, "is_text", False)
            return {"input_ids": ids, "labels": ids.clone(), **({} if packed else {"attention_mask": mask})}
        case "seq2seq-lm":
            labels = torch.zeros(batch_size, lengths["labels"], dtype=torch.int64)
            return {"input_ids": ids, "attention_mask": mask, "labels": labels}
        case "question-answering":
            answers = torch.zeros(batch_size, dtype=torch.int64)
            return {
                "input_ids": ids,
                "attention_mask": mask,
                "start_positions": answers,
                "end_positions": answers,
            }
    regression = getattr(task, "regression", False)
    labels = torch.zeros(batch_size, dtype=torch.float32 if regression else torch.int64)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
