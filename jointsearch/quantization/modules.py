"""Modules in NF4 and int8 where bitsandbytes' own do not serve.

Its ``Linear4bit`` goes wrong on CPUs in two ways, and ``Linear8bitLt`` in one (see the classes
here). Its ``Embedding4bit`` and ``Embedding8bit`` refuse to be saved, the first has no double
quantization, and the second loses its scales to a tied ``Linear8bitLt`` head, which takes them out of
the shared parameter at its first forward pass.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from torch import nn
from torch.nn import functional as F


class Linear4bit(bnb.nn.Linear4bit):
    """bitsandbytes' NF4 layer, corrected for CPUs.

    On CPUs with AVX512-BF16 the original repacks its weight in place at the first evaluation and has
    no gradient from then on. And the CPU kernel that dequantizes starts a new block of scales with
    every row, while the one that quantizes lets blocks run on: where ``in_features`` is no multiple of
    the block size (64) the original multiplies by another weight, with an error of 20 % instead of 9 %
    (measured with bitsandbytes 0.50.2).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.support_avx512bf16_for_cpu = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (*, in_features) -> (*, out_features)
        if x.device.type != "cpu" or self.in_features % self.weight.blocksize == 0:
            return super().forward(x)
        weight = dequantize(self.weight).to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        return F.linear(x.to(self.compute_dtype), weight, bias).to(x.dtype)


class Linear8bit(bnb.nn.Linear8bitLt):
    """bitsandbytes' int8 layer, which keeps its scales.

    On CPUs PEFT's DoRA replaces the weight by a copy without scales, which the original then takes over.
    """

    def init_8bit_state(self) -> None:
        scales = self.state.SCB
        super().init_8bit_state()
        if self.state.SCB is None:
            self.state.SCB = scales


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
            return F.embedding(input, dequantize(self.weight)).to(self.compute_dtype)
        packed = self.weight.data.view(self.num_embeddings, self.embedding_dim // 2)
        scales = _scales(state).view(self.num_embeddings, self.embedding_dim // state.blocksize)
        looked_up = _plain_state(state, F.embedding(input, scales), (*input.shape, self.embedding_dim))
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


def dequantize(weight: bnb.nn.Params4bit) -> torch.Tensor:
    """The matrix that an NF4 weight stands for, read as one long row: right on every device."""
    state = weight.quant_state
    flat = _plain_state(state, _scales(state), (1, state.shape.numel()))
    return dequantize_4bit(weight.data, flat).view(state.shape)


def dequantized(module: nn.Module) -> torch.Tensor:
    """The matrix that a quantized module stands for, float32: (out_features, in_features), or rows of an
    embedding."""
    if isinstance(module, Linear4bit | Embedding4bit):
        return dequantize(module.weight).float()
    if isinstance(module, Embedding8bit):
        scales = module.scales
    else:
        scales = module.state.SCB if module.weight.SCB is None else module.weight.SCB
    assert scales is not None, "the weight has not been quantized"
    return module.weight.data.float() * (scales.float() / 127.0)[:, None]


def _scales(state: QuantState) -> torch.Tensor:
    """One float32 scale per block of 64 weights."""
    if not state.nested:
        return state.absmax
    return dequantize_blockwise(state.absmax, state.state2) + state.offset


def _plain_state(state: QuantState, scales: torch.Tensor, shape: tuple[int, ...]) -> QuantState:
    """A state without double quantization for other scales and another shape."""
    return QuantState(
        absmax=scales.flatten(),
        shape=torch.Size(shape),
        code=state.code,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        dtype=state.dtype,
    )
