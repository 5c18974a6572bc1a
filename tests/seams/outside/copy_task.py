"""A task: the second half of an example repeats its first half; only the second half is learned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from jointsearch.config.task import TaskBase, TaskKind, register_task


class CopySettings(TaskBase):
    """Random tokens, twice."""

    type: Literal["copy"]
    half_length: int = Field(default=4, ge=1)
    """Tokens of each half."""
    num_examples: int = Field(default=16, ge=1)
    """Of each split."""

    @property
    def columns(self) -> dict[str, list[str]]:
        return {}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "accuracy")


register_task(
    TaskKind("copy", CopySettings, "copy_task:Copy", "transformers:AutoModelForCausalLM", "CAUSAL_LM")
)


class Copy:
    """As ``training.tasks.base.Task``."""

    def __init__(self, settings: CopySettings, tokenizer: Any, max_length: int | None) -> None:
        import torch

        self.tokenizer = tokenizer
        self.notes: list[str] = []
        drawn = torch.Generator().manual_seed(settings.data.split_seed)
        shape = (settings.num_examples, settings.half_length)
        half = torch.randint(3, 100, shape, generator=drawn)
        self._ids = torch.cat([half, half], dim=1)  # (examples, 2 * half_length)
        self._labels = torch.cat([torch.full_like(half, -100), half], dim=1)

    def num_examples(self, split: str) -> int:
        return len(self._ids)

    def batch(self, split: str, indices: list[int]) -> dict[str, Any]:
        return {"input_ids": self._ids[indices], "labels": self._labels[indices]}

    def num_tokens(self, batch: dict[str, Any]) -> int:
        return int(batch["input_ids"].numel())

    def loss(self, model: Any, split: str, limit: int | None, batch_size: int) -> float:
        return float(self.evaluate(model, split, limit, batch_size).metrics["loss"])

    def evaluate(self, model: Any, split: str, limit: int | None, batch_size: int) -> Any:
        import torch

        from jointsearch.training.tasks.base import Evaluation, evaluating

        batch = self.batch(split, list(range(len(self._ids)))[:limit])
        with evaluating(model):
            output = model(**batch)
        right = (output.logits[:, :-1].argmax(-1) == batch["labels"][:, 1:])[batch["labels"][:, 1:] != -100]
        accuracy = float(right.to(torch.float32).mean())
        return Evaluation({"loss": float(output.loss), "accuracy": accuracy}, (), 0.0)
