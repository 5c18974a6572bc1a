"""What a model is adapted to: data, batches and metrics behind one protocol."""

from __future__ import annotations

from transformers import PreTrainedConfig

from jointsearch.config.study import StudyConfig, is_folder_id, model_source
from jointsearch.config.task import TASKS
from jointsearch.config.tasks.sequence_classification import SequenceClassificationSettings
from jointsearch.registry import load
from jointsearch.training.hub import is_out_of_reach
from jointsearch.training.model.architecture import empty_model
from jointsearch.training.model.base_model import load_tokenizer
from jointsearch.training.tasks.base import Batch, Evaluation, Task
from jointsearch.training.tasks.limits import (
    check_ends,
    check_tokens,
    give_known_padding,
    num_known_tokens,
    positions_of,
    within,
)

__all__ = ["Batch", "Evaluation", "Task", "build_task"]


def build_task(config: StudyConfig, model_config: PreTrainedConfig) -> Task:
    """The study's task; raises ``DataError`` where its data cannot be used, ``ModelError`` where the
    tokenizer has tokens for it that the model lacks.

    What is longer than the model's positions is cut, with a note. A model that has no padding token
    gets the tokenizer's.
    """
    tokenizer = load_tokenizer(config.model)
    model = empty_model(model_config, config.model, config.task.type)
    num_known = num_known_tokens(model)
    notes = []
    if not is_folder_id(model_source(config.model.id)) and is_out_of_reach():
        notes.append(f"the Hub cannot be reached: '{config.model.id}' is read from the cache")
    notes += give_known_padding(tokenizer, num_known)
    if getattr(model_config, "pad_token_id", None) is None:
        model_config.pad_token_id = tokenizer.pad_token_id
    positions = positions_of(model, tokenizer)
    settings, cut = within(config.task, positions)
    task: Task = load(TASKS[config.task.type].implementation)(settings, tokenizer, positions.read)
    splits = getattr(task, "splits", {})
    check_tokens(splits, tokenizer, num_known)
    if model_config.is_encoder_decoder and isinstance(settings, SequenceClassificationSettings):
        check_ends(splits, tokenizer)
    task.notes[:0] = notes + cut
    return task
