"""What all tasks share: tokenized rows by split, batches of them, and a way to measure a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from jointsearch.measurement import Example

Batch = dict[str, torch.Tensor]

IGNORED = -100
"""The label of a token that no loss is taken of."""

NUM_SHOWN = 4
"""Validation examples whose outputs are kept."""

SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Evaluation:
    """A model on a split."""

    metrics: dict[str, float]
    examples: tuple[Example, ...]
    """The first of the split, what the model makes of them, and what was asked for."""
    inference_rate: float
    """Tokens generated per second by a language model, examples per second by others."""


Listener = Callable[[str, int, int], None]
"""Told what is being done (``measuring``, ``writing``), how many batches are done, and of how many."""


def nobody(what: str, done: int, of: int) -> None:
    """Listens to nothing."""


class Task(Protocol):
    """One kind of task; examples are indexed by position within a split."""

    tokenizer: PreTrainedTokenizerBase
    notes: list[str]
    """What a person should know about the data: rows cut or left out."""
    listener: Listener
    """Told how far a measurement is; by default nobody is."""

    def num_examples(self, split: str) -> int:
        """0 where there is no such split, as of test rows without labels."""

    def batch(self, split: str, indices: list[int]) -> Batch:
        """Model inputs with labels, on the CPU."""

    def num_tokens(self, batch: Batch) -> int:
        """Tokens in a batch, padding not counted."""

    def loss(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> float:
        """The loss alone, on the first ``limit`` examples."""

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Evaluation:
        """All that the task measures, on the first ``limit`` examples of a split."""


class TokenizedTask:
    """A task of tokenized rows, padded to the longest of a batch by ``collator``."""

    tokenizer: PreTrainedTokenizerBase
    notes: list[str]
    splits: dict[str, Dataset]
    collator: Any
    listener: Listener = staticmethod(nobody)

    def num_examples(self, split: str) -> int:
        return len(self.splits[split]) if split in self.splits else 0

    def features(self, split: str, indices: list[int]) -> list[dict[str, Any]]:
        """Model inputs of each example, as lists."""
        return self.splits[split].select(indices).to_list()

    def batch(self, split: str, indices: list[int]) -> Batch:
        return dict(self.collator(self.features(split, indices)))

    def num_tokens(self, batch: Batch) -> int:
        return int(batch["attention_mask"].sum())

    def batches(
        self, model: nn.Module, split: str, limit: int | None, batch_size: int, what: str = "measuring"
    ) -> Iterator[Batch]:
        """The first ``limit`` examples in their order, on the model's device."""
        num_examples = self.num_examples(split) if limit is None else min(limit, self.num_examples(split))
        device = next(model.parameters()).device

        def on_device(start: int) -> Batch:
            batch = self.batch(split, list(range(start, min(start + batch_size, num_examples))))
            return {name: tensor.to(device) for name, tensor in batch.items()}

        return self.told(what, num_examples, batch_size, on_device)

    def told(
        self, what: str, num_examples: int, batch_size: int, make: Callable[[int], Batch]
    ) -> Iterator[Batch]:
        """What ``make`` makes of the first example of every batch; the ``listener`` is told of each."""
        starts = range(0, num_examples, batch_size)
        for done, start in enumerate(starts, 1):
            yield make(start)
            self.listener(what, done, len(starts))


def num_targets(batch: Batch, shift: int) -> int:
    """What a model's loss of a batch is a mean over: labels of tokens that count, or else examples.

    ``shift`` is 1 where a logit is for the next token: such a model has no logit for the first label.
    """
    labels = batch.get("labels")
    if labels is None or labels.dim() < 2 or labels.is_floating_point():
        return len(next(iter(batch.values())))
    return int((labels[:, shift:] != IGNORED).sum())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def shown(text: str, *, end: bool = False) -> str:
    """At most ``SHOWN_CHARACTERS`` of a text, from its beginning, or up to its ``end``."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"… {text[-SHOWN_CHARACTERS:]}" if end else f"{text[:SHOWN_CHARACTERS]} …"
