"""Tries each bit-width on a device: quantizes a layer, runs it forward and backward."""

from __future__ import annotations

import torch
from torch import nn

from jointsearch.errors import first_line
from jointsearch.plan import QuantizationSettings
from jointsearch.quantization.formats import compute_dtype, empty_module, quantized_weight


def available_devices() -> list[str]:
    devices = ["cpu"]
    devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def check_format(device: str, bits: int) -> str:
    """``works``, or the first line of what went wrong."""
    place = torch.device(device)
    dtype = compute_dtype(place, torch.bfloat16)
    try:
        layer: nn.Module = nn.Linear(128, 64, bias=False).to(place, dtype)
        if bits < 16:
            empty = empty_module(layer, bits, QuantizationSettings(), dtype)
            empty.weight = quantized_weight(empty, layer.weight.data, torch.bfloat16)
            layer = empty
        inputs = torch.randn(4, 128, device=place, dtype=dtype, requires_grad=True)
        layer(inputs).sum().backward()
    except Exception as error:  # whatever a library does not support is the answer
        return f"fails: {first_line(error)}"
    assert inputs.grad is not None
    return "works" if inputs.grad.isfinite().all() else "fails: the gradient is not finite"
