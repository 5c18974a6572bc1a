"""What a model is adapted to: data, batches and metrics behind one protocol."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from jointsearch.config import StudyConfig
from jointsearch.training.tasks.causal_lm import CausalLM

Batch = dict[str, torch.Tensor]


class Task(Protocol):
    """One kind of task; examples are indexed by position within a split."""

    tokenizer: PreTrainedTokenizerBase

    def num_examples(self, split: str) -> int: ...

    def batch(self, split: str, indices: list[int]) -> Batch:
        """Model inputs with ``labels``, on the CPU."""

    def num_tokens(self, batch: Batch) -> int:
        """Tokens in a batch, padding not counted."""

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> dict[str, float]:
        """The task's metrics on the first ``limit`` examples of a split."""


def build_task(config: StudyConfig, max_positions: int | None) -> Task:
    """The study's task; raises ``DataError`` where its data cannot be used.

    ``max_positions`` is the longest sequence that the model takes.
    """
    return CausalLM(config, max_positions)
