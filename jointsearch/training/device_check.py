"""Tries weight formats on a device: quantizes a layer and an embedding, runs them forward and backward."""

from __future__ import annotations

import torch
from torch import nn

from jointsearch.config.study import StudyConfig
from jointsearch.errors import UnsupportedError, first_line
from jointsearch.plan.formats import FORMATS, OF_BITS, ModuleKind, QuantizationSettings, by_precision
from jointsearch.plan.layout import ModelLayout
from jointsearch.quantization.formats.base import (
    compute_dtype,
    empty_module,
    fill,
    quantized,
)
from jointsearch.space import SearchSpace
from jointsearch.training.methods.base import method_of


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
        linear = nn.Linear(128, 64, bias=False).to(place, dtype)
        layer = _quantized(linear, "linear", weight_format, dtype)
        table = _quantized(nn.Embedding(16, 128).to(place, dtype), "embedding", weight_format, dtype)
        rows = table(torch.arange(4, device=place))
        inputs = (rows + torch.randn(4, 128, device=place, dtype=dtype)).detach().requires_grad_(True)
        layer(inputs).sum().backward()
    except Exception as error:  # whatever a library does not support is the answer
        return f"fails: {first_line(error)}"
    assert inputs.grad is not None
    return "works" if inputs.grad.isfinite().all() else "fails: the gradient is not finite"


def check_formats(device: torch.device, config: StudyConfig, layout: ModelLayout) -> None:
    """Raise ``UnsupportedError`` if the device cannot run a format that the study can choose."""
    space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
    for name in by_precision({name for group in space.groups for name in group.formats}):
        if (state := check_format(str(device), name)) != "works":
            bits = FORMATS[name].bits
            what = f"{bits} bits" if OF_BITS.get(bits) == name else f"the format {name}"
            state = state.replace(":", " with:", 1)
            raise UnsupportedError(
                f"the study has {what}, but on {device} {state}; use another device, or other "
                "search_space.bits or formats; `jointsearch doctor` tries them all"
            )
    adapted = [
        (spec, name)
        for group in space.groups
        if group.ranks[-1]
        for spec in group.modules
        if spec.adaptable and spec.quantizable
        for name in group.formats
    ]
    method_of(config.lora).check(device, adapted)


def _quantized(module: nn.Module, kind: ModuleKind, name: str, dtype: torch.dtype) -> nn.Module:
    """The module in that format, or as it is where the format is for other kinds."""
    if not FORMATS[name].is_quantized or kind not in FORMATS[name].kinds:
        return module
    empty = empty_module(module, name, QuantizationSettings(), dtype)
    fill(empty, quantized(empty, module.weight.data, torch.bfloat16))
    return empty
