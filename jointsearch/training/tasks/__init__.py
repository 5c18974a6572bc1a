"""What a model is adapted to: data, batches and metrics behind one protocol."""

from __future__ import annotations

from transformers import PreTrainedConfig

from jointsearch.config.study import StudyConfig
from jointsearch.config.task import TASKS
from jointsearch.registry import load
from jointsearch.training.model.base_model import load_tokenizer
from jointsearch.training.tasks.base import Batch, Evaluation, Task

__all__ = ["Batch", "Evaluation", "Task", "build_task"]

_LENGTHS = ("sequence_length", "max_source_length", "max_target_length", "max_length")


def build_task(config: StudyConfig, model_config: PreTrainedConfig) -> Task:
    """The study's task; raises ``DataError`` where its data cannot be used.

    What is longer than the model's positions is cut, with a note. A model that has no padding token
    gets the tokenizer's.
    """
    tokenizer = load_tokenizer(config.model)
    if getattr(model_config, "pad_token_id", None) is None:
        model_config.pad_token_id = tokenizer.pad_token_id
    limit = getattr(model_config, "max_position_embeddings", None)
    if limit is not None:
        limit = min(limit, tokenizer.model_max_length)  # RoBERTa's has two positions less
    task: Task = load(TASKS[config.task.type].implementation)(config.task, tokenizer, limit)
    for name in _LENGTHS:
        length = getattr(config.task, name, None)
        if limit is not None and length is not None and length > limit:
            task.notes.insert(
                0, f"task.{name}: the model has {limit} positions, so {length} is cut to {limit}"
            )
    return task
