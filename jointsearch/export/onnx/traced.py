"""What stands in a model for PEFT's and bitsandbytes' modules while it is traced: ONNX Runtime's operators.

    nf4     com.microsoft.MatMulBnb4    code[q] · scale, a scale for every 64 weights of the flat matrix
    int8    com.microsoft.MatMulNBits   (q - 128) · scale, the row's scale / 127 for each of its blocks

(onnxruntime, docs/ContribOperators.md). Both multiply by the very numbers that bitsandbytes dequantizes,
packed as they are. Doubly quantized scales are written out: 0.5 bits per weight instead of 0.127.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from jointsearch.plan.formats import NF4_BLOCK
from jointsearch.quantization.formats.base import format_of
from jointsearch.quantization.formats.nf4 import scales_of

INT8_BLOCKS = tuple(16 << power for power in range(5))
"""Sizes that ``MatMulNBits`` has."""


class NF4Weight(nn.Module):
    """The packed numbers of an NF4 matrix of shape (out_features, in_features)."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        state = module.weight.quant_state
        self.out_features, self.in_features = state.shape
        self.register_buffer("packed", module.weight.data.flatten())  # (⌈out · in / 2⌉,)
        self.register_buffer("scales", scales_of(state).float().flatten())  # (⌈out · in / 64⌉,)
        self.register_buffer("code", state.code.float())  # (16,)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:  # (*, in_features) -> (*, out_features)
        sizes = {"K": self.in_features, "N": self.out_features, "block_size": NF4_BLOCK, "quant_type": 1}
        return _operator("MatMulBnb4", (x, self.packed, self.scales), sizes, self.out_features)

    def rows(self, index: torch.Tensor) -> torch.Tensor:  # (*) -> (*, in_features)
        place = index[..., None] * self.in_features + torch.arange(self.in_features)
        pair = self.packed[place // 2].long()
        number = torch.where(place % 2 == 0, pair // 16, pair % 16)
        return self.code[number] * self.scales[place // NF4_BLOCK]


class Int8Weight(nn.Module):
    """The numbers of an int8 matrix of shape (out_features, in_features), in blocks with the row's scale."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        weight = module.weight.data
        self.out_features, self.in_features = weight.shape
        self.block = min(INT8_BLOCKS, key=lambda size: -(-self.in_features // size) * (size + 4))
        num_blocks = -(-self.in_features // self.block)
        packed = torch.full((self.out_features, num_blocks * self.block), 128, dtype=torch.uint8)
        packed[:, : self.in_features] = (weight.int() + 128).to(torch.uint8)
        self.register_buffer("packed", packed.view(self.out_features, num_blocks, self.block))
        scales = _row_scales(module).float() / 127.0
        self.register_buffer("scales", scales[:, None].repeat(1, num_blocks))  # (out_features, num_blocks)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:  # (*, in_features) -> (*, out_features)
        sizes = {"K": self.in_features, "N": self.out_features, "bits": 8, "block_size": self.block}
        # accuracy 1: in float32, and not with activations in 8 bits
        return _operator(
            "MatMulNBits", (x, self.packed, self.scales), {**sizes, "accuracy_level": 1}, self.out_features
        )

    def rows(self, index: torch.Tensor) -> torch.Tensor:  # (*) -> (*, in_features)
        numbers = (self.packed[index].float() - 128.0) * self.scales[index][..., None]
        return numbers.flatten(-2)[..., : self.in_features]


WEIGHTS: dict[str, Callable[[Any], nn.Module]] = {"nf4": NF4Weight, "int8": Int8Weight}
"""By the format's name."""


class TracedLinear(nn.Module):
    """x Wᵀ + b by an operator of ONNX Runtime."""

    def __init__(self, weight: Any, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.weight.multiply(x)
        return product if self.bias is None else product + self.bias


class TracedEmbedding(nn.Module):
    """The rows of a quantized table, times its scale where it has one."""

    def __init__(self, weight: Any, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.weight.rows(index)
        return rows if self.scale == 1.0 else rows * self.scale


class TracedLora(nn.Module):
    """The module and its adapter: W x + B A x, with the scale in B."""

    def __init__(self, module: nn.Module, layer: Any, adapter: str) -> None:
        super().__init__()
        self.module = module
        a, b = layer.lora_A[adapter].weight.data, layer.lora_B[adapter].weight.data
        self.register_buffer("a", a.float().T.contiguous())  # (in_features, rank)
        self.register_buffer("b", (layer.scaling[adapter] * b.float()).T.contiguous())  # (rank, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (*, in_features) -> (*, out_features)
        return self.module(x) + (x @ self.a) @ self.b


def traceable(model: nn.Module) -> nn.Module:
    """``model`` with its quantized modules and adapters replaced in place; tied ones share their numbers."""
    weights: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, LoraLayer):
            adapter = module.active_adapters[0]
            plain = _traceable_module(module.base_layer, weights)
            model.set_submodule(name, TracedLora(plain, module, adapter))
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if format_of(module) is not None:
            model.set_submodule(name, _traceable_module(module, weights))
    return model


def _traceable_module(module: Any, weights: dict[int, nn.Module]) -> nn.Module:
    if format_of(module) is None:
        plain: nn.Module = module
        return plain
    place = module.weight.data_ptr()
    if place not in weights:
        weights[place] = WEIGHTS[module.format_name](module)
    if isinstance(module, nn.Embedding):
        return TracedEmbedding(weights[place], getattr(module, "embed_scale", 1.0))
    return TracedLinear(weights[place], module.bias)


def _operator(
    name: str, inputs: tuple[torch.Tensor, ...], attributes: dict[str, Any], out_features: int
) -> torch.Tensor:
    """An operator of ONNX Runtime's own domain, which nothing else can compute."""
    x = inputs[0]
    shape = (*x.shape[:-1], out_features)
    found: torch.Tensor = torch.onnx.ops.symbolic(
        f"com.microsoft::{name}", inputs, attributes, dtype=x.dtype, shape=shape, version=1
    )
    return found


def _row_scales(module: Any) -> torch.Tensor:
    """The largest weight of each row of an int8 module, (out_features,)."""
    if isinstance(module, nn.Embedding):
        scales = module.scales
    else:
        scales = module.state.SCB if module.weight.SCB is None else module.weight.SCB
    assert scales is not None, "the weight has not been quantized"
    found: torch.Tensor = scales
    return found
