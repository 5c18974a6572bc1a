"""NF4: 4-bit codes for normally distributed weights, a scale for every 64 of them, by bitsandbytes.

    w = code[q] · scale

with the 16 quantiles of QLoRA (Dettmers et al., arXiv 2305.14314, section 3 and appendix E); with double
quantization the scales are 8-bit numbers again, a float32 scale for every 256 of them and one offset.

bitsandbytes' own layer goes wrong on CPUs in two ways (see ``Linear4bit``). Its ``Embedding4bit`` refuses to
be saved and has no double quantization.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from torch import nn
from torch.nn import functional as F
from transformers.integrations.bitsandbytes import Bnb4bitDeserialize
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from jointsearch.errors import UnsupportedError
from jointsearch.plan.formats import NF4_BLOCK, QuantizationSettings
from jointsearch.plan.layout import ModuleSpec
from jointsearch.quantization.formats.base import FormatImplementation


class NF4Format(FormatImplementation):
    """Weights are ``bnb.nn.Params4bit``, which carry their scales."""

    serialized_names = tuple(Bnb4BitHfQuantizer.serialized_names["weight"])
    deserialize = Bnb4bitDeserialize
    placeholder_dtype = torch.uint8

    def linear(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool,
        settings: QuantizationSettings,
        dtype: torch.dtype,
    ) -> Linear4bit:
        return Linear4bit(
            in_features,
            out_features,
            has_bias,
            compute_dtype=dtype,
            compress_statistics=settings.double_quant,
            quant_type="nf4",
        )

    def embedding(
        self, num_embeddings: int, embedding_dim: int, settings: QuantizationSettings, dtype: torch.dtype
    ) -> Embedding4bit:
        return Embedding4bit(num_embeddings, embedding_dim, double_quant=settings.double_quant, dtype=dtype)

    def quantize(self, empty: nn.Module, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        parameter = bnb.nn.Params4bit(
            weight,
            requires_grad=False,
            compress_statistics=empty.weight.compress_statistics,
            quant_type="nf4",
            module=empty,
        )
        return {"weight": parameter.to(weight.device)}

    def dequantize(self, module: nn.Module) -> torch.Tensor:
        return dequantize(module.weight)

    def check_dora(self, spec: ModuleSpec, device: torch.device) -> None:
        """What bitsandbytes dequantizes on CPUs is wrong where a row ends in a block."""
        if device.type == "cpu" and spec.shape[1] % NF4_BLOCK:
            raise UnsupportedError(
                f"dora on a CPU needs 4-bit modules whose in_features are a multiple of {NF4_BLOCK}, "
                f"but {spec.name} has {spec.shape[1]}; use another lora.variant, or 8 or 16 bits"
            )


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
        scales = scales_of(state).view(self.num_embeddings, self.embedding_dim // state.blocksize)
        looked_up = _plain_state(state, F.embedding(input, scales), (*input.shape, self.embedding_dim))
        return dequantize_4bit(F.embedding(input, packed).view(-1, 1), looked_up).to(self.compute_dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.weight.quant_state is not None:
            for name, tensor in self.weight.quant_state.as_dict(packed=True).items():
                destination[f"{prefix}weight.{name}"] = tensor


def dequantize(weight: bnb.nn.Params4bit) -> torch.Tensor:
    """The matrix that an NF4 weight stands for, read as one long row: right on every device."""
    state = weight.quant_state
    flat = _plain_state(state, scales_of(state), (1, state.shape.numel()))
    return dequantize_4bit(weight.data, flat).view(state.shape)


def scales_of(state: QuantState) -> torch.Tensor:
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


NF4 = NF4Format()
