"""What 4, 8 and 16 bits are: which bitsandbytes module replaces which, and how it is filled.

The bank and the transformers plug-in both quantize through this module, so a trial and a
checkpoint that was quantized on load hold the same bytes.
"""

from __future__ import annotations

import bitsandbytes as bnb
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from jointsearch.plan.formats import NF4, QuantizationSettings
from jointsearch.quantization.modules import Embedding4bit, Embedding8bit, Linear4bit, Linear8bit

QUANTIZED = (Linear4bit, Linear8bit, Embedding4bit, Embedding8bit)
"""Every class of quantized module."""


def compute_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type that a device computes in where the model's 16-bit type is ``dtype``.

    CPUs compute in float32: their 16-bit kernels are slower and less exact. The weights keep the
    values that they have in 16 bits.
    """
    return torch.float32 if device.type == "cpu" else dtype


def is_linear(module: nn.Module) -> bool:
    """Whether the module is exactly what can be replaced: subclasses may use their weight otherwise."""
    return type(module) is nn.Linear or type(module) is Conv1D


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """(out_features, in_features) of an ``nn.Linear`` or a ``Conv1D``, which stores its transpose."""
    rows, columns = module.weight.shape
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def empty_module(
    module: nn.Module, weight_format: str, settings: QuantizationSettings, dtype: torch.dtype
) -> nn.Module:
    """A quantized module without content (on the meta device) that can stand in for ``module``.

    ``dtype`` is the type it computes in.
    """
    empty: nn.Module
    with torch.device("meta"):
        if isinstance(module, nn.Embedding):
            shape = module.num_embeddings, module.embedding_dim
            if weight_format == NF4.name:
                empty = Embedding4bit(*shape, double_quant=settings.double_quant, dtype=dtype)
            else:
                empty = Embedding8bit(*shape, dtype=dtype)
        else:
            out_features, in_features = linear_shape(module)
            has_bias = module.bias is not None
            if weight_format == NF4.name:
                empty = Linear4bit(
                    in_features,
                    out_features,
                    has_bias,
                    compute_dtype=dtype,
                    compress_statistics=settings.double_quant,
                    quant_type="nf4",
                )
            else:
                empty = Linear8bit(
                    in_features,
                    out_features,
                    has_bias,
                    has_fp16_weights=False,
                    threshold=settings.int8_threshold,
                )
            if empty.bias is not None:
                empty.bias = nn.Parameter(empty.bias.to(dtype))
    empty.source_cls = type(module)  # tells whether a checkpoint's weight is transposed
    return empty.requires_grad_(False)


def quantized_weight(empty: nn.Module, weight: torch.Tensor, dtype: torch.dtype) -> nn.Parameter:
    """``weight`` as the checkpoint has it, quantized for ``empty``, on the weight's device.

    The weight is rounded to the model's 16-bit type ``dtype`` first: what is quantized is the model
    that the plan is for, in whatever type a checkpoint happens to store it.
    """
    if issubclass(empty.source_cls, Conv1D):
        weight = weight.T
    weight = weight.to(dtype).to(compute_dtype(weight.device, dtype)).contiguous()
    if isinstance(empty, Linear8bit | Embedding8bit):
        # int8 weights are quantized on their way from the CPU to where they go
        parameter = bnb.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        return parameter.to(weight.device)
    parameter = bnb.nn.Params4bit(
        weight,
        requires_grad=False,
        compress_statistics=empty.weight.compress_statistics,
        quant_type="nf4",
        module=empty,
    )
    return parameter.to(weight.device)


def unquantized_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The floating-point tensors of a checkpoint that are no part of a quantized weight, by name."""
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers())
    quantized = (bnb.nn.Params4bit, bnb.nn.Int8Params)
    return {
        name: tensors[name]
        for name in model.state_dict()
        if name in tensors and tensors[name].is_floating_point() and not isinstance(tensors[name], quantized)
    }


def round_to(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give all that is not quantized the values it has in the 16-bit type, whatever it computes in."""
    for tensor in unquantized_tensors(model).values():
        tensor.data = tensor.data.to(dtype).to(tensor.dtype)
