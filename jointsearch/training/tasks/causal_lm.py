"""Language modelling on packed plain text: loss, perplexity, bits per byte, next-token accuracy."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from jointsearch.config import StudyConfig
from jointsearch.errors import DataError
from jointsearch.training.base_model import load_tokenizer
from jointsearch.training.text import packed_splits


class CausalLM:
    """Every example is a full row of tokens; each token but the first is predicted."""

    def __init__(self, config: StudyConfig, max_positions: int | None) -> None:
        length = config.task.sequence_length
        if max_positions is not None and length > max_positions:
            raise DataError(
                f"task.sequence_length must be at most the model's {max_positions} positions, "
                f"but got {length}"
            )
        self.tokenizer = load_tokenizer(config.model)
        self._splits = packed_splits(config.task, self.tokenizer)  # (num_examples, length) each

    def num_examples(self, split: str) -> int:
        return len(self._splits[split])

    def batch(self, split: str, indices: list[int]) -> dict[str, torch.Tensor]:
        input_ids = self._splits[split][indices]
        return {"input_ids": input_ids, "labels": input_ids}

    def num_tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return batch["input_ids"].numel()

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> dict[str, float]:
        """Metrics over the first ``limit`` examples, each token weighing the same.

        bits per byte = loss · predicted tokens / (ln 2 · UTF-8 bytes of the text).
        """
        was_training = model.training
        model.eval()
        device = next(model.parameters()).device
        rows = self._splits[split][:limit]
        total_loss = torch.zeros((), dtype=torch.float64)
        num_right = num_predicted = 0
        for start in range(0, len(rows), batch_size):
            input_ids = rows[start : start + batch_size].to(device)
            logits = model(input_ids=input_ids).logits[:, :-1].float()  # (batch, time - 1, vocabulary)
            targets = input_ids[:, 1:]
            total_loss += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").cpu()
            num_right += int((logits.argmax(-1) == targets).sum())
            num_predicted += targets.numel()
        model.train(was_training)
        loss = total_loss.item() / num_predicted
        num_bytes = sum(len(text.encode()) for text in self.tokenizer.batch_decode(rows[:, 1:]))
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": loss * num_predicted / (math.log(2) * num_bytes),
            "accuracy": num_right / num_predicted,
        }
