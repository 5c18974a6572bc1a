"""int8 with one scale per row: LLM.int8(), by bitsandbytes.

    w = q · scale / 127        scale = max |w| of the row

(Dettmers et al., arXiv 2208.07339, section 3.1). Activations are quantized too, but for outliers above
``int8_threshold`` (section 3.2).

bitsandbytes' own ``Embedding8bit`` refuses to be saved, and loses its scales to a tied ``Linear8bitLt`` head,
which takes them out of the shared parameter at its first forward pass.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from torch import nn
from torch.nn import functional as F
from transformers.integrations.bitsandbytes import Bnb8bitDeserialize
from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer

from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.layout import ModuleSpec
from jointsearch.quantization.formats.base import FormatImplementation


class Int8Format(FormatImplementation):
    """Weights are ``bnb.nn.Int8Params``, which carry their scales until the first forward pass."""

    serialized_names = tuple(Bnb8BitHfQuantizer.serialized_names["weight"])
    deserialize = Bnb8bitDeserialize
    placeholder_dtype = torch.int8
    is_saved_flat = True

    def linear(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool,
        settings: QuantizationSettings,
        dtype: torch.dtype,
    ) -> Linear8bit:
        return Linear8bit(
            in_features,
            out_features,
            has_bias,
            has_fp16_weights=False,
            threshold=settings.int8_threshold,
        )

    def embedding(
        self, num_embeddings: int, embedding_dim: int, settings: QuantizationSettings, dtype: torch.dtype
    ) -> Embedding8bit:
        return Embedding8bit(num_embeddings, embedding_dim, dtype=dtype)

    def quantize(self, empty: nn.Module, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        # int8 weights are quantized on their way from the CPU to where they go
        parameter = bnb.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        return {"weight": parameter.to(weight.device)}

    def dequantize(self, module: nn.Module) -> torch.Tensor:
        if isinstance(module, Embedding8bit):
            scales = module.scales
        else:
            scales = module.state.SCB if module.weight.SCB is None else module.weight.SCB
        assert scales is not None, "the weight has not been quantized"
        return module.weight.data.float() * (scales.float() / 127.0)[:, None]

    def filled(self, module: nn.Module) -> None:
        if isinstance(module, Embedding8bit):
            module.scales  # noqa: B018  keeps the scales before a tied head takes them

    def check_dora(self, spec: ModuleSpec, device: torch.device) -> None:
        """PEFT dequantizes int8 exactly."""


class Linear8bit(bnb.nn.Linear8bitLt):
    """bitsandbytes' int8 layer, which keeps its scales.

    On CPUs PEFT's DoRA replaces the weight by a copy without scales, which the original then takes over. And
    the original fails for inputs of four dimensions (ProphetNet has such).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (*, in_features) -> (*, out_features)
        if x.dim() <= 3:
            return super().forward(x)
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])

    def init_8bit_state(self) -> None:
        scales = self.state.SCB
        super().init_8bit_state()
        if self.state.SCB is None:
            self.state.SCB = scales


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


Int8 = Int8Format()
