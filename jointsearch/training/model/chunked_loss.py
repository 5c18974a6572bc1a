"""The cross-entropy of rows of logits, some of them at a time, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

MIN_ROWS = 256
"""Tokens of a chunk, at least: fewer do not keep a device busy, and unpack a quantized head more often."""

CHUNK_BYTES = 16 << 20
"""Of a chunk's logits in float32, where more tokens fit in it: small vocabularies are not cut up."""


def rows_at_once(vocabulary: int) -> int:
    return max(MIN_ROWS, CHUNK_BYTES // (4 * vocabulary))


class ChunkedLoss(torch.autograd.Function):
    """The sum of the losses of the ``counted`` rows, whose gradient is made while it is added up."""

    @staticmethod
    def forward(
        ctx: Any,
        logits_of: Callable[[torch.Tensor], torch.Tensor],
        num_rows: int,
        counted: torch.Tensor,
        target: torch.Tensor,
        label_smoothing: float,
        hidden: torch.Tensor,
        *trained: nn.Parameter,
    ) -> torch.Tensor:
        learns = ctx.needs_input_grad[5]
        gradient = torch.zeros_like(hidden) if learns else None  # (rows, width of the model)
        sums = [torch.zeros_like(parameter) for parameter in trained if ctx.needs_input_grad[6]]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows in counted.split(num_rows):
            # what a chunk keeps is used at once: no hooks of the whole step, which may move it elsewhere
            as_it_is = saved_tensors_hooks(lambda kept: kept, lambda kept: kept)
            with as_it_is, torch.set_grad_enabled(learns or bool(sums)):
                given = hidden[rows].detach().requires_grad_(learns)
                loss = F.cross_entropy(
                    logits_of(given), target[rows], reduction="sum", label_smoothing=label_smoothing
                )
                total += loss.detach()
                wanted = [*([given] if learns else []), *(trained if sums else ())]
                found = list(torch.autograd.grad(loss, wanted)) if wanted else []
            if gradient is not None:
                gradient[rows] = found.pop(0)
            for done, more in zip(sums, found, strict=True):
                done += more
            del loss, given, wanted, found  # before the next chunk is begun
        ctx.save_for_backward(gradient, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (scale,) = outer
        gradients = [None if saved is None else saved * scale for saved in ctx.saved_tensors]
        missing = len(ctx.needs_input_grad) - 5 - len(gradients)
        return (*[None] * 5, *gradients, *[None] * missing)
