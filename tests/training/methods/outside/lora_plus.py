"""A training method of another package, in one file: LoRA+, whose B learns faster than its A.

Hayou et al., arXiv 2402.12354: the rate of B is λ times that of A, λ about 16.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from jointsearch.plan.methods import Method, register_method
from jointsearch.training.methods.lora import LoraMethod

RATIO = 16


class LoraPlus(LoraMethod):
    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, float]] = []
        """Step, whether it was finite, and the largest |B| after it."""

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        fast = [value for name, value in trained.items() if ".lora_B." in name]
        slow = [value for name, value in trained.items() if ".lora_B." not in name]
        return [{"params": slow}, {"params": fast, "lr": RATIO * learning_rate}]

    def after_step(self, model: Any, step: int, finite: bool) -> None:
        largest = max(v.abs().max().item() for n, v in model.named_parameters() if ".lora_B." in n)
        self.seen.append((step, finite, largest))


LORA_PLUS = LoraPlus()

register_method(Method("lora-plus", "lora_plus:LORA_PLUS"))
