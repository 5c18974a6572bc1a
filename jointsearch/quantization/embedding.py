"""Embeddings whose rows are stored in NF4 or int8 and that save and share their weight.

bitsandbytes has ``Embedding4bit`` and ``Embedding8bit`` too, but they refuse to be saved, the first
has no double quantization, and the second loses its scales to a tied ``Linear8bitLt`` head, which
takes them out of the shared parameter at its first forward pass.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from torch import nn
from torch.nn import functional as F


class Embedding4bit(nn.Embedding):
    """Rows in NF4; only the rows that are looked up are dequantized where blocks do not cross rows."""

    weight: bnb.nn.Params4bit
    quant_state: QuantState | None = None  # bitsandbytes writes it here while it quantizes

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, double_quant: bool, dtype: torch.dtype
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, dtype=dtype)
        self.compute_dtype = dtype
        self.weight = bnb.nn.Params4bit(
            self.weight.data, compress_statistics=double_quant, quant_type="nf4", module=self
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # (*) -> (*, embedding_dim)
        state = self.weight.quant_state
        if self.embedding_dim % state.blocksize:
            rows = F.embedding(input, dequantize_4bit(self.weight.data, state))
            return rows.to(self.compute_dtype)
        packed = self.weight.data.view(self.num_embeddings, self.embedding_dim // 2)
        scales = _scales(state).view(self.num_embeddings, self.embedding_dim // state.blocksize)
        looked_up = QuantState(
            absmax=F.embedding(input, scales).flatten(),
            shape=torch.Size((*input.shape, self.embedding_dim)),
            code=state.code,
            blocksize=state.blocksize,
            quant_type=state.quant_type,
            dtype=state.dtype,
        )
        return dequantize_4bit(F.embedding(input, packed).view(-1, 1), looked_up).to(self.compute_dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.weight.quant_state is not None:
            for name, tensor in self.weight.quant_state.as_dict(packed=True).items():
                destination[f"{prefix}weight.{name}"] = tensor


class Embedding8bit(nn.Embedding):
    """Rows in int8, one float32 scale per row: row = int8 · scale / 127."""

    weight: bnb.nn.Int8Params

    def __init__(self, num_embeddings: int, embedding_dim: int, *, dtype: torch.dtype) -> None:
        super().__init__(num_embeddings, embedding_dim, dtype=dtype)
        self.compute_dtype = dtype
        self.weight = bnb.nn.Int8Params(self.weight.data, has_fp16_weights=False, requires_grad=False)
        self._scales: torch.Tensor | None = None

    @property
    def scales(self) -> torch.Tensor | None:  # (num_embeddings,)
        """Kept here from the first look on, before a tied head can take them out of the weight."""
        if self._scales is None:
            self._scales = self.weight.SCB
        return self._scales

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # (*) -> (*, embedding_dim)
        assert self.scales is not None, "the weight has not been quantized"
        rows = F.embedding(input, self.weight.data)
        scales = F.embedding(input, self.scales.view(-1, 1) / 127.0)
        return (rows * scales).to(self.compute_dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Embedding8bit:
        scales = self.scales
        super()._apply(fn, recurse)
        self._scales = None if scales is None else fn(scales)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.scales is not None:
            destination[f"{prefix}SCB"] = self.scales
            destination[f"{prefix}weight_format"] = torch.tensor(0, dtype=torch.uint8)


def _scales(state: QuantState) -> torch.Tensor:
    """One float32 scale per block of 64 weights."""
    if not state.nested:
        return state.absmax
    return dequantize_blockwise(state.absmax, state.state2) + state.offset
