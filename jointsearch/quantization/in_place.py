"""Quantizes a model that is loaded: its modules are replaced by those of their formats, one after another.

And the way back: the plain model that multiplies by what the quantized modules stand for.
"""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from jointsearch.quantization.experts import experts_at, quantized_experts
from jointsearch.quantization.formats.base import (
    compute_dtype,
    empty_module,
    fill,
    format_of,
    implementation_of,
    matrix_of,
    quantized,
    round_to,
    unquantized_tensors,
)
from jointsearch.quantization.plugin import SAVED_BY_OWN_NAMES, JointSearchConfig, JointSearchQuantizer
from jointsearch.quantization.tying import tied_modules


def quantize_in_place(model: PreTrainedModel, config: JointSearchConfig) -> PreTrainedModel:
    """``model`` as ``from_pretrained(..., quantization_config=config)`` would have loaded it.

    What is not quantized gets the type that its device computes in, with the values of the 16-bit type. So
    do the modules that are replaced, for who still has them.
    """
    dtype = to_sixteen_bit(model, config.torch_dtype)
    tied = tied_modules(model)
    for name, weight_format in config.formats.items():
        if (found := experts_at(model, name)) is not None:
            weight = model.get_parameter(name).data
            found[0]._parameters[found[1]] = quantized_experts(
                *found, weight, weight_format, config.settings, config.torch_dtype, dtype
            )
            continue
        tensors: dict[str, torch.Tensor] = {}
        for path in (name, *tied.get(name, ())):
            original = model.get_submodule(path)
            module = empty_module(original, weight_format, config.settings, dtype)
            tensors = tensors or quantized(module, original.weight.data, config.torch_dtype)
            if path != name:
                for buffer in implementation_of(weight_format).buffers:  # no checkpoint has them twice
                    module.register_buffer(buffer, getattr(module, buffer), persistent=False)
            fill(module, tensors)
            if getattr(original, "bias", None) is not None:
                module.bias = original.bias
            model.set_submodule(path, module)
    quantizer = JointSearchQuantizer(config, pre_quantized=False)
    quantizer.device = model.device
    model.hf_quantizer = quantizer
    model.quantization_method = config.quant_method
    model.config.quantization_config = config
    model._weight_conversions = SAVED_BY_OWN_NAMES
    # PEFT looks at both before it wraps a bitsandbytes module
    model.is_quantized = model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
    return model


def to_sixteen_bit(model: PreTrainedModel, dtype: torch.dtype) -> torch.dtype:
    """Give what a checkpoint has of ``model`` the values of its 16-bit ``dtype``, in the type that its device
    computes in, which is returned.

    What is no part of a checkpoint, such as the frequencies of rotary embeddings, keeps its type, as do the
    modules that transformers keeps in float32.
    """
    computed = compute_dtype(model.device, dtype)
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    for name, tensor in unquantized_tensors(model).items():
        if not any(part in name.split(".") for part in kept):
            tensor.data = tensor.data.to(computed)
    round_to(model, dtype)
    return computed


@torch.no_grad()
def dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """A plain float32 model of the same class that multiplies by what the modules of ``model`` stand for.

    Quantized experts are not known here.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    plain = type(model)(config).float().eval()
    state = plain.state_dict(keep_vars=True)
    for name, tensor in unquantized_tensors(model).items():
        state[name].data.copy_(tensor)
    for path, module in model.named_modules(remove_duplicate=False):
        if format_of(module) is not None:
            target = plain.get_submodule(path)
            weight = matrix_of(module)
            target.weight.data.copy_(weight.T if isinstance(target, Conv1D) else weight)
    return plain.requires_grad_(False)
