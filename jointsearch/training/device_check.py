"""Tries weight formats on a device: quantizes a layer and an embedding, runs them forward and backward."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from jointsearch.config.study import StudyConfig
from jointsearch.errors import UnsupportedError, first_line
from jointsearch.plan.formats import FORMATS, NF4, NF4_BLOCK, QuantizationSettings, by_precision
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.quantization.formats import compute_dtype, empty_module, quantized_weight
from jointsearch.space import SearchSpace


def available_devices() -> list[str]:
    devices = ["cpu"]
    devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def check_format(device: str, weight_format: str) -> str:
    """``works``, or the first line of what went wrong."""
    place = torch.device(device)
    dtype = compute_dtype(place, torch.bfloat16)
    try:
        layer, table = (
            _quantized(module.to(place, dtype), weight_format, dtype)
            for module in (nn.Linear(128, 64, bias=False), nn.Embedding(16, 128))
        )
        rows = table(torch.arange(4, device=place))
        inputs = (rows + torch.randn(4, 128, device=place, dtype=dtype)).detach().requires_grad_(True)
        layer(inputs).sum().backward()
    except Exception as error:  # whatever a library does not support is the answer
        return f"fails: {first_line(error)}"
    assert inputs.grad is not None
    return "works" if inputs.grad.isfinite().all() else "fails: the gradient is not finite"


def check_formats(device: torch.device, config: StudyConfig, layout: ModelLayout) -> None:
    """Raise ``UnsupportedError`` if the device cannot run a bit-width that the study can choose."""
    space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
    for name in by_precision({name for group in space.groups for name in group.formats}):
        if (state := check_format(str(device), name)) != "works":
            raise UnsupportedError(
                f"the study has {FORMATS[name].bits} bits, "
                f"but on {device} {state.replace(':', ' with:', 1)}; "
                "use another device, or other search_space.bits; `jointsearch doctor` tries them all"
            )
    if config.lora.variant == "dora" and device.type == "cpu":
        adapted = [group for group in space.groups if NF4.name in group.formats and group.ranks[-1]]
        check_dora([spec for group in adapted for spec in group.modules if spec.adaptable])


def check_dora(modules: Iterable[ModuleSpec]) -> None:
    """DoRA takes the norms of what bitsandbytes dequantizes, which on CPUs is wrong where a row ends in a
    block; raise ``UnsupportedError`` if one of these 4-bit modules is such."""
    for spec in modules:
        if spec.quantizable and spec.shape[1] % NF4_BLOCK:
            raise UnsupportedError(
                f"dora on a CPU needs 4-bit modules whose in_features are a multiple of {NF4_BLOCK}, "
                f"but {spec.name} has {spec.shape[1]}; use another lora.variant, or 8 or 16 bits"
            )


def _quantized(module: nn.Module, weight_format: str, dtype: torch.dtype) -> nn.Module:
    if not FORMATS[weight_format].is_quantized:
        return module
    empty = empty_module(module, weight_format, QuantizationSettings(), dtype)
    empty.weight = quantized_weight(empty, module.weight.data, torch.bfloat16)
    return empty
