"""How much the task pulls at each module: gradients along a training run, and how far adapters have moved.

∂L/∂W = δᵀ X from a module's inputs X and the gradient δ of its output, so no weight needs a gradient of its
own. Of one example with T tokens its squared norm is the sum of (δ δᵀ) ∘ (X Xᵀ), two matrices of T × T.

Which tokens an expert sees is its module's own. There B's gradient s (∂L/∂W) Aᵀ tells it: over random A its
squared norm is s² ‖∂L/∂W‖² ‖A‖² / in, an unbiased sketch, of a batch rather than of its examples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

from jointsearch.plan.layout import ModelLayout
from jointsearch.training.methods.base import adapted_layers
from jointsearch.training.model.adapters import ADAPTER

NUM_FISHER_STEPS = 16


class GradientProbe:
    """Watches a model with LoRA adapters along a training run."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._squares: dict[tuple[str, str], list[float]] = defaultdict(list)
        """‖∂L/∂A‖² and ‖∂L/∂B‖² by module, one per step."""
        self._fisher: dict[str, float] = defaultdict(float)
        self._num_steps = 0
        self._num_examples = 0
        """Of the batch that is at it."""

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Count the gradients of every backward pass meanwhile."""
        hooks = []
        for name, layer in adapted_layers(model, LoraLayer).items():
            for matrix in ("A", "B"):
                weight = getattr(layer, f"lora_{matrix}")[ADAPTER].weight
                see = partial(self._see_adapter, (name, matrix))
                hooks.append(weight.register_post_accumulate_grad_hook(see))
            if isinstance(layer, ParamWrapper):
                weight = layer.lora_B[ADAPTER].weight
                hooks.append(
                    weight.register_post_accumulate_grad_hook(partial(self._see_experts, name, layer))
                )
        for spec in self._layout.modules:
            if not spec.trained and spec.kind != "experts":
                module = model.get_submodule(f"base_model.model.{spec.name}")
                hooks.append(module.register_forward_hook(partial(self._see_output, spec.name)))
        # the first module's own pre-hook counts steps, before anything of the step is seen
        hooks.append(model.register_forward_pre_hook(self._begin, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def gradient_norms(self) -> dict[str, float]:
        """Mean over the steps of ‖∂L/∂(A, B)‖."""
        names = {name for name, _ in self._squares}
        return {
            name: sum((a + b) ** 0.5 for a, b in zip(*self._both(name), strict=True))
            / len(self._both(name)[0])
            for name in names
        }

    @property
    def fishers(self) -> dict[str, float]:
        """Mean over the examples of the first steps and the weight's elements of (∂L/∂W)², where L is an
        example's share of its batch's loss times the batch's size; uses of a shared weight apart.

        The empirical Fisher information is that of examples: squares of a batch's gradient, in which examples
        cancel each other, are several times smaller, and unevenly so.
        """
        steps = min(self._num_steps, NUM_FISHER_STEPS)
        return {
            spec.name: self._fisher[spec.name] / steps / spec.num_weights
            for spec in self._layout.modules
            if spec.name in self._fisher
        }

    def _both(self, name: str) -> tuple[list[float], list[float]]:
        return self._squares[name, "A"], self._squares[name, "B"]

    def _begin(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._num_steps += model.training
        self._num_examples = len(next(t for t in (*inputs, *named.values()) if isinstance(t, torch.Tensor)))

    def _see_adapter(self, key: tuple[str, str], weight: nn.Parameter) -> None:
        assert weight.grad is not None
        self._squares[key].append(weight.grad.float().norm().item() ** 2)

    def _see_experts(self, name: str, layer: ParamWrapper, weight: nn.Parameter) -> None:
        if self._num_steps > NUM_FISHER_STEPS:
            return
        assert weight.grad is not None
        a = layer.lora_A[ADAPTER].weight
        scale = layer.scaling[ADAPTER] ** 2 * a.float().norm().item() ** 2 / layer.num_experts / a.shape[1]
        # examples whose gradients do not cancel or agree: a batch's mean has a share of their squares
        self._fisher[name] += self._num_examples * weight.grad.float().norm().item() ** 2 / (scale or 1.0)

    def _see_output(
        self, name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        if not module.training or not torch.is_grad_enabled() or self._num_steps > NUM_FISHER_STEPS:
            return None
        if not output.requires_grad:  # an embedding: nothing before it is trained
            output.requires_grad_(True)
        seen = inputs[0].detach()
        if isinstance(module, nn.Embedding) and len(seen) == 1:  # positions, looked up once for all examples
            seen = seen.expand(self._num_examples, *seen.shape[1:])
            output = output.expand(self._num_examples, *output.shape[1:])

        def see_gradient(gradient: torch.Tensor) -> None:
            # (examples, tokens, out), and the inputs alike; where a module is shown rows, each is an example
            rows = gradient.detach().float().reshape(len(gradient), -1, gradient.shape[-1])
            if seen.is_floating_point():
                inputs = seen.float().reshape(len(seen), -1, seen.shape[-1])
                products = inputs @ inputs.mT
            else:
                ids = seen.reshape(len(seen), -1)
                products = (ids[:, :, None] == ids[:, None, :]).float()
            squares = (rows @ rows.mT * products).sum()
            self._fisher[name] += squares.item() * len(rows)  # (B ∂L/∂W)² of each, over B of them

        output.register_hook(see_gradient)
        return output


def movements(model: Any, norms: dict[str, float]) -> dict[str, float]:
    """‖s B A‖ / ‖W‖ of every adapter, as it is now."""
    found = {}
    for name, layer in adapted_layers(model, LoraLayer).items():
        found[name] = layer.get_delta_weight(ADAPTER).float().norm().item() / (norms[name] or 1.0)
    return found
