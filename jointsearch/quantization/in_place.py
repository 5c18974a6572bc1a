"""Quantizes a model that is loaded: its modules are replaced by those of their formats, one after another."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.quantization.formats.base import (
    compute_dtype,
    empty_module,
    fill,
    implementation_of,
    quantized,
    round_to,
    unquantized_tensors,
)
from jointsearch.quantization.plugin import JointSearchConfig, JointSearchQuantizer
from jointsearch.quantization.tying import tied_modules


def quantize_in_place(model: PreTrainedModel, config: JointSearchConfig) -> PreTrainedModel:
    """``model`` as ``from_pretrained(..., quantization_config=config)`` would have loaded it.

    What is not quantized gets the type that its device computes in, with the values of the 16-bit type.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in config.formats if name not in modules]:
        raise PlanError(
            f"a plan must fit its model, but {type(model).__name__} has no module {', '.join(unknown[:5])}"
        )
    if getattr(model, "is_quantized", False):
        raise PlanError(
            f"a model must be loaded without quantization to be given a plan's formats, but this "
            f"{type(model).__name__} is quantized"
        )
    dtype = compute_dtype(model.device, config.torch_dtype)
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    for name, tensor in unquantized_tensors(model).items():
        if not any(part in name.split(".") for part in kept):
            tensor.data = tensor.data.to(dtype)
    tied = tied_modules(model)
    for name, weight_format in config.formats.items():
        tensors: dict[str, torch.Tensor] = {}
        for path in (name, *tied.get(name, ())):
            original = modules[path]
            module = empty_module(original, weight_format, config.settings, dtype)
            tensors = tensors or quantized(module, original.weight.data, config.torch_dtype)
            if path != name:
                for buffer in implementation_of(weight_format).buffers:  # no checkpoint has them twice
                    module.register_buffer(buffer, getattr(module, buffer), persistent=False)
            fill(module, tensors)
            if getattr(original, "bias", None) is not None:
                module.bias = original.bias
            model.set_submodule(path, module)
    round_to(model, config.torch_dtype)
    quantizer = JointSearchQuantizer(config, pre_quantized=False)
    quantizer.device = model.device
    model.hf_quantizer = quantizer
    model.quantization_method = config.quant_method
    model.config.quantization_config = config
    # PEFT looks at both before it wraps a bitsandbytes module
    model.is_quantized = model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
    return model
