"""The types of llama.cpp's tensors: what each weight format becomes. Blocks are 32 weights of a row.

    q8_0    Q8_0    the very bytes
    q4_0    Q4_0    the very bytes
    int8    Q8_0    w = q · d, -127 <= q <= 127, d in float16: the very integers, with d = scale / 127
    nf4     Q8_0    it has no NF4; four bits more keep what was trained, to 0.6 % of a weight
    16bit   F16     norms, biases and tables of positions are F32

Four or five bits would add to the error of NF4, 9 %, another 9 % (Q4_0) or 4 % (Q5_1). Rows that are no
multiple of 32 long are F16, as llama.cpp itself makes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from torch import nn
from transformers.pytorch_utils import Conv1D

from jointsearch.plan.formats import GGUF_BLOCK
from jointsearch.quantization.formats.q4_0 import Q4_0

TYPES = {"q8_0": Type.Q8_0, "q4_0": Type.Q4_0, "nf4": Type.Q8_0, "int8": Type.Q8_0}
"""Of what is quantized."""

LARGEST = 65504
"""Of float16."""

POSITIONS = ("wpe",)
"""Tables that are kept in float32."""


def type_of(weight: torch.Tensor, weight_format: str) -> Type:
    """What a weight of shape (out_features, in_features) in that format is written as."""
    if weight_format != "16bit" and weight.shape[1] % GGUF_BLOCK == 0:
        return TYPES[weight_format]
    return Type.F16 if weight.abs().max() <= LARGEST else Type.F32


def packed(weight: torch.Tensor, weight_format: str, kept: bool) -> tuple[np.ndarray, Type]:
    """A float32 weight, (out_features, in_features), in the bytes that a file has.

    ``kept``: it has the values of its format already; int8's integers, of which each row's largest is 127,
    are then kept.
    """
    kind, values = type_of(weight, weight_format), weight.numpy()
    if not (kept and weight_format == "int8" and kind == Type.Q8_0):
        return gguf.quants.quantize(values, kind), kind
    scales = np.abs(values).max(1, keepdims=True) / np.float32(127)
    numbers = np.rint(values / np.where(scales == 0, 1, scales)).astype(np.int8)
    blocks = numbers.reshape(len(values), -1, GGUF_BLOCK)
    d = np.repeat(scales.astype(np.float16).view(np.uint8)[:, None], blocks.shape[1], axis=1)
    return np.concatenate([d, blocks.view(np.uint8)], axis=2).reshape(len(values), -1), kind


def as_written(model: nn.Module, formats: Mapping[str, str], *, kept: bool) -> nn.Module:
    """``model`` with the weights that its file stands for, computed with torch and no GGUF.

    It is plain, in float32, with or without PEFT's adapters beside its modules.
    """
    done: set[int] = set()
    for path, module in model.named_modules():
        if ".lora_" in path or not isinstance(module, nn.Linear | nn.Embedding | Conv1D):
            continue
        name = path.removeprefix("base_model.model.").removesuffix(".base_layer")
        if name.endswith(POSITIONS) or module.weight.data_ptr() in done:
            continue
        done.add(module.weight.data_ptr())  # a tied head has that of the embeddings
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        weight_format = formats.get(name, "16bit")
        kind = type_of(weight, weight_format)
        if kind == Type.F16:
            weight.copy_(weight.half().float())
        elif kind == Type.Q4_0:
            weight.copy_(Q4_0.decode(tuple(Q4_0.encode(weight).values()), weight.shape[1]))
        elif kind == Type.Q8_0:
            width = weight.shape[1] if kept and weight_format == "int8" else GGUF_BLOCK
            blocks = weight.unflatten(1, (-1, width))  # (out, blocks, block)
            scales = blocks.abs().amax(2, keepdim=True) / 127
            numbers = blocks * scales.clamp(min=2**-126).reciprocal()
            numbers = numbers.sign() * (numbers.abs() + 0.5).floor()
            weight.copy_((numbers * scales.half().float()).flatten(1))
    return model
