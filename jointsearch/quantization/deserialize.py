"""What a checkpoint holds of a quantized weight, back in its parameter."""

from __future__ import annotations

from typing import Any

import torch
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

from jointsearch.quantization.formats.base import AsSaved, format_of


class Deserialize(ConversionOps):
    """A saved weight back into its parameter, by the operation of its module's format.

    The loader casts scales to the type of the packed weight unless an operation has ``hf_quantizer``.
    """

    def __init__(self, hf_quantizer: HfQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def convert(
        self,
        input_dict: dict[str, Any],
        model: Any = None,
        full_layer_name: str | None = None,
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        module, _ = get_module_from_name(model, full_layer_name)
        implementation = format_of(module)
        if implementation is None:
            # nothing was cast on the way here; see above
            dtype = model.get_parameter_or_buffer(full_layer_name).dtype
            values = AsSaved(self.hf_quantizer).convert(input_dict)
            return {k: v.to(dtype) if v.is_floating_point() else v for k, v in values.items()}
        operation = implementation.deserialize(self.hf_quantizer)
        if implementation.is_saved_flat:
            shape = model.get_parameter_or_buffer(full_layer_name).shape
            # earlier versions saved it in its shape
            input_dict = {
                name: _in_shape(value, shape) if name.endswith("weight") else value
                for name, value in input_dict.items()
            }
        return operation.convert(input_dict, model=model, full_layer_name=full_layer_name)


def _in_shape(value: Any, shape: torch.Size) -> Any:
    """A tensor, or a list of one as the loader hands them on."""
    return [of.view(shape) for of in value] if isinstance(value, list) else value.view(shape)
