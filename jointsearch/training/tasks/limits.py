"""What a model can read: how many tokens of a text, and which tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from jointsearch.config.task import TaskBase
from jointsearch.errors import DataError, ModelError, some

_TOKEN_COLUMNS = ("input_ids", "labels")


@dataclass(frozen=True)
class Positions:
    """How many tokens a model has positions for; None where it has no such limit."""

    read: int | None
    written: int | None
    """By the decoder of a model that has an encoder too."""


def positions_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Positions:
    """By the model's config, its position embeddings, and what the tokenizer knows."""
    config = model.config.get_text_config()
    known = getattr(config, "max_position_embeddings", None)
    if known is not None and known <= 0:  # XLNet's way to say that there is no limit
        known = None
    read = getattr(config, "max_encoder_position_embeddings", None) or known
    written = getattr(config, "max_decoder_position_embeddings", None) or known
    if known is not None:
        for name, module in model.named_modules():
            first = getattr(module, "padding_idx", None)
            is_of_positions = "position" in name.rpartition(".")[2] and first is not None
            if is_of_positions and getattr(module, "num_embeddings", known) == known:
                # RoBERTa and its kin count positions from the one after that of padding
                read = written = known - first - 1
    limit = tokenizer.model_max_length
    return Positions(*(None if count is None else min(count, limit) for count in (read, written)))


def within(task: TaskBase, positions: Positions) -> tuple[TaskBase, list[str]]:
    """The task with lengths that the model has positions for, and notes of those that were cut."""
    limits = {
        "sequence_length": positions.read,
        "max_source_length": positions.read,
        "max_target_length": positions.written,
        "max_length": positions.read,
    }
    cut, notes = {}, []
    for name, limit in limits.items():
        length = getattr(task, name, None)
        if limit is not None and length is not None and length > limit:
            cut[name] = limit
            notes.append(f"task.{name}: the model has {limit} positions, so {length} is cut to {limit}")
    generation = getattr(task, "generation", None)
    if "max_target_length" in type(task).model_fields and generation is not None and positions.written:
        longest = positions.written - 1  # after the token that a decoder starts with
        if generation.max_new_tokens > longest:
            cut["generation"] = generation.model_copy(update={"max_new_tokens": longest})
            notes.append(
                f"task.generation.max_new_tokens: the model has {positions.written} positions, "
                f"so {generation.max_new_tokens} is cut to {longest}"
            )
    return task.model_copy(update=cut) if cut else task, notes


def num_known_tokens(model: PreTrainedModel) -> int:
    """The rows of the token embedding."""
    embedding = model.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        return int(embedding.num_embeddings)
    return int(model.config.get_text_config().vocab_size)


def give_known_padding(tokenizer: PreTrainedTokenizerBase, num_known: int) -> list[str]:
    """Another padding token where the model does not know the tokenizer's; masks and labels hide it."""
    pad = tokenizer.pad_token_id
    if pad is None or pad < num_known:
        return []
    name = tokenizer.pad_token
    choices = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.convert_ids_to_tokens(0))
    tokenizer.pad_token = next(
        token for token in choices if token is not None and tokenizer.convert_tokens_to_ids(token) < num_known
    )
    return [
        f"the tokenizer pads with {name!r} ({pad}), which the model, with {num_known} tokens, does not have; "
        f"{tokenizer.pad_token!r} is used instead"
    ]


def check_tokens(splits: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, num_known: int) -> None:
    """Raise ``ModelError`` where rows have a token that the model does not know."""
    for split, rows in splits.items():
        for column in set(_TOKEN_COLUMNS) & set(rows.column_names):
            lists = rows.with_format("arrow")[column]
            if not pa.types.is_list(lists.type):  # labels that are classes
                continue
            largest = pc.max(pc.list_flatten(lists)).as_py() or 0
            if largest >= num_known:
                raise ModelError(
                    f"the tokenizer and the model must fit, but the {split} split has the token "
                    f"{tokenizer.convert_ids_to_tokens(largest)!r} ({largest}) and the model {num_known} "
                    "tokens; use the model's own tokenizer, or a model whose embedding was resized"
                )


def check_ends(splits: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``DataError`` where a model with a decoder cannot classify: BART, T5 and their kin read a text at
    its end token, and want equally many of them in every text of a batch.
    """
    counts = {ids.count(tokenizer.eos_token_id) for rows in splits.values() for ids in rows["input_ids"]}
    if counts and (0 in counts or len(counts) > 1):
        raise DataError(
            "a model with a decoder classifies texts by their end token, of which all must have equally "
            f"many, but there are texts with {some(sorted(counts))} of {tokenizer.eos_token!r}; "
            "use a tokenizer that adds it, and take it out of the texts themselves"
        )
