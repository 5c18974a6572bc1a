"""Formats whose rows are coded one by one, in plain tensors: their layers, and integers in groups.

A layer multiplies by the weight that it decodes, forward and backward, and keeps no decoded copy of it
between the two. An embedding decodes the rows that are looked up.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from jointsearch.plan.formats import QuantizationSettings
from jointsearch.quantization.formats.base import FormatImplementation


class RowFormat(FormatImplementation):
    """A format that says how rows become tensors, the parameter ``weight`` and the ``buffers``, and back."""

    @abstractmethod
    def encode(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """A float32 weight (rows, columns) as tensors of ``rows`` rows each; works without content, too."""

    @abstractmethod
    def decode(self, stored: tuple[torch.Tensor, ...], columns: int) -> torch.Tensor:
        """float32, (*, columns), of ``weight`` and the ``buffers``, each (*, its columns)."""

    def linear(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool,
        settings: QuantizationSettings,
        dtype: torch.dtype,
    ) -> RowLinear:
        return RowLinear(self, in_features, out_features, has_bias)

    def embedding(
        self, num_embeddings: int, embedding_dim: int, settings: QuantizationSettings, dtype: torch.dtype
    ) -> RowEmbedding:
        return RowEmbedding(self, num_embeddings, embedding_dim, dtype)

    def quantize(self, empty: nn.Module, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        tensors = self.encode(weight.detach().float())
        return tensors | {"weight": nn.Parameter(tensors["weight"], requires_grad=False)}

    def dequantize(self, module: nn.Module) -> torch.Tensor:
        columns = module.embedding_dim if isinstance(module, nn.Embedding) else module.in_features
        return self.decode(self.stored(module), columns)

    def stored(self, module: nn.Module) -> tuple[torch.Tensor, ...]:
        """The parameter ``weight`` and the buffers of one of its modules."""
        return tuple(getattr(module, name) for name in ("weight", *self.buffers))

    def make_room(self, module: nn.Module, rows: int, columns: int) -> None:
        """Give a module empty tensors of the shapes and types that ``encode`` gives."""
        empty = self.encode(torch.empty(rows, columns, device="meta"))
        module.weight = nn.Parameter(empty["weight"], requires_grad=False)
        for name in self.buffers:
            module.register_buffer(name, empty[name])


class GroupedIntegers(RowFormat):
    """Integers with one scale for every group of a row, as compressed-tensors packs them.

        w = q · s        s = max |w| of the group / ((2^bits - 1) / 2), rounded to bfloat16

    -2^(bits-1) <= q < 2^(bits-1). The integers are made positive by adding 2^(bits-1) and lie in 32-bit
    numbers, the first in the lowest bits (compressed-tensors 0.20, ``pack_to_int32``); the scales' rule is
    that of its ``calculate_qparams``. A row whose length is no multiple is filled up with zeros.
    """

    buffers = ("scales",)

    def __init__(self, bits: int, group: int | None) -> None:
        """``group``: weights that share a scale; None for a whole row."""
        self.bits, self.group = bits, group

    def encode(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        columns, half = weight.shape[1], 2 ** (self.bits - 1)
        groups = in_groups(weight, self.group or columns)
        scales = (groups.abs().amax(2) / (half - 0.5)).clamp(min=2**-24).bfloat16()
        numbers = (groups / scales.float()[..., None]).round().clamp(-half, half - 1)
        return {"weight": pack(numbers.flatten(1)[:, :columns], self.bits), "scales": scales}

    def decode(self, stored: tuple[torch.Tensor, ...], columns: int) -> torch.Tensor:
        packed, scales = stored
        numbers = unpack(packed, self.bits)[..., :columns].float()
        return numbers * scales.float().repeat_interleave(self.group or columns, -1)[..., :columns]


class RowLinear(nn.Linear):
    def __init__(self, coding: RowFormat, in_features: int, out_features: int, has_bias: bool) -> None:
        super().__init__(in_features, out_features, has_bias)
        self.coding = coding
        coding.make_room(self, out_features, in_features)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # (*, in_features) -> (*, out_features)
        product: torch.Tensor = _Multiply.apply(input, self.coding, *self.coding.stored(self))
        return product if self.bias is None else product + self.bias


class RowEmbedding(nn.Embedding):
    def __init__(
        self, coding: RowFormat, num_embeddings: int, embedding_dim: int, dtype: torch.dtype
    ) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.coding, self.compute_dtype = coding, dtype
        coding.make_room(self, num_embeddings, embedding_dim)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # (*) -> (*, embedding_dim)
        looked_up = tuple(tensor[input] for tensor in self.coding.stored(self))
        return self.coding.decode(looked_up, self.embedding_dim).to(self.compute_dtype)


class _Multiply(torch.autograd.Function):
    """x Wᵀ; what is kept for the way back is the coded weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, coding: RowFormat, *stored: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*stored)
        ctx.coding, ctx.columns = coding, x.shape[-1]
        return x @ coding.decode(stored, ctx.columns).to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        weight = ctx.coding.decode(ctx.saved_tensors, ctx.columns).to(gradient.dtype)
        return gradient @ weight, *(None for _ in ctx.needs_input_grad[1:])


def in_groups(weight: torch.Tensor, group: int) -> torch.Tensor:
    """(rows, columns) as (rows, groups, group), filled up with zeros."""
    return F.pad(weight, (0, -weight.shape[1] % group)).unflatten(1, (-1, group))


def pack(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Signed integers (rows, columns) in 32-bit numbers (rows, ⌈columns · bits / 32⌉)."""
    each = 32 // bits
    positive = in_groups(numbers.to(torch.int32) + 2 ** (bits - 1), each)
    return (positive << _shifts(bits, numbers.device)).sum(2, dtype=torch.int32)


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Signed integers (*, 32 / bits · n), those that fill up too, of ``pack``'s (*, n)."""
    positive = packed[..., None] >> _shifts(bits, packed.device) & 2**bits - 1
    return positive.flatten(-2) - 2 ** (bits - 1)


def _shifts(bits: int, device: torch.device) -> torch.Tensor:
    return torch.arange(0, 32, bits, dtype=torch.int32, device=device)
