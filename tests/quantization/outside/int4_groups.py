"""A weight format of another package, in one file: int4 with a float16 scale for every 32 weights of a row.

w = q · s        s = max |w| of the group / 7,  q an integer of -8 … 7, two to a byte
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from jointsearch.plan.formats import QuantizationSettings, WeightFormat, register_format
from jointsearch.quantization.formats.base import FormatImplementation

GROUP = 32


def weight_bytes(shape: tuple[int, int], settings: QuantizationSettings) -> int:
    """⌈in/2⌉ packed and 2·⌈in/32⌉ scales for every row."""
    rows, columns = shape
    return rows * (-(-columns // 2) + 2 * -(-columns // GROUP))


class Int4Groups(FormatImplementation):
    buffers = ("scales",)

    def linear(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool,
        settings: QuantizationSettings,
        dtype: torch.dtype,
    ) -> Int4Linear:
        return Int4Linear(in_features, out_features, has_bias)

    def embedding(
        self, num_embeddings: int, embedding_dim: int, settings: QuantizationSettings, dtype: torch.dtype
    ) -> Int4Embedding:
        return Int4Embedding(num_embeddings, embedding_dim, dtype)

    def quantize(self, empty: nn.Module, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        rows, columns = weight.shape
        groups = F.pad(weight.float(), (0, -columns % GROUP)).view(rows, -1, GROUP)
        scales = (groups.abs().amax(dim=-1) / 7).half()
        numbers = (groups / scales.float().clamp(min=1e-8)[..., None]).round().clamp(-8, 7)
        nibbles = F.pad(numbers.view(rows, -1)[:, :columns] + 8, (0, columns % 2)).to(torch.uint8)
        packed = nibbles[:, ::2] | nibbles[:, 1::2] << 4
        return {"weight": nn.Parameter(packed, requires_grad=False), "scales": scales}

    def dequantize(self, module: nn.Module) -> torch.Tensor:
        columns = module.embedding_dim if isinstance(module, nn.Embedding) else module.in_features
        return dense(module.weight, module.scales, columns)


class Int4Linear(nn.Linear):
    def __init__(self, in_features: int, out_features: int, has_bias: bool) -> None:
        super().__init__(in_features, out_features, has_bias)
        _make_room(self, out_features, in_features)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = _Multiply.apply(input, self.weight, self.scales)
        return product if self.bias is None else product + self.bias


class Int4Embedding(nn.Embedding):
    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: torch.dtype) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.compute_dtype = dtype
        _make_room(self, num_embeddings, embedding_dim)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        rows = dense(self.weight[input], self.scales[input], self.embedding_dim)
        return rows.to(self.compute_dtype)


class _Multiply(torch.autograd.Function):
    """x Wᵀ; what is kept for the way back is the packed weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(packed, scales)
        ctx.columns = x.shape[-1]
        return x @ dense(packed, scales, ctx.columns).to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return gradient @ dense(*ctx.saved_tensors, ctx.columns).to(gradient.dtype), None, None


def dense(packed: torch.Tensor, scales: torch.Tensor, columns: int) -> torch.Tensor:
    """float32, shape (*, columns), of packed (*, ⌈columns/2⌉) and scales (*, ⌈columns/32⌉)."""
    numbers = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)[..., :columns].float() - 8
    return numbers * scales.float().repeat_interleave(GROUP, dim=-1)[..., :columns]


def _make_room(module: Any, rows: int, columns: int) -> None:
    packed = torch.empty(rows, -(-columns // 2), dtype=torch.uint8)
    module.weight = nn.Parameter(packed, requires_grad=False)
    module.register_buffer("scales", torch.empty(rows, -(-columns // GROUP), dtype=torch.float16))


INT4_GROUPS = Int4Groups()

register_format(WeightFormat("int4-fp16", 4, 0.08, weight_bytes, "int4_groups:INT4_GROUPS", loftq=True))
