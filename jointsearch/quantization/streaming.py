"""Loads a checkpoint weight by weight into a bank: the model that results has placeholders for them.

transformers reads one tensor at a time where a quantizer asks for them; this one quantizes nothing, but hands
every weight (a parameter of two or more dimensions) on and leaves a placeholder on the meta device, of the
type that the device computes in. All else, such as norms, buffers and new heads, is loaded as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

QUANT_METHOD = "jointsearch-bank"


class Keeper(Protocol):
    """Where weights are kept."""

    def begin(self, model: PreTrainedModel, checkpoint_files: Iterable[Path]) -> None:
        """Called with the empty model, before the first weight is read."""

    def keep(self, name: str, weight: torch.Tensor) -> None:
        """Called with each weight, as the checkpoint has it but for its type, under its parameter's name."""


@register_quantization_config(QUANT_METHOD)
class Streaming(QuantizationConfigMixin):
    """Given to ``from_pretrained`` as its ``quantization_config``; ``finish`` the model that it returns."""

    def __init__(self, keeper: Keeper, dtype: torch.dtype) -> None:
        """``dtype``: what the device computes in."""
        self.quant_method = QUANT_METHOD
        self.keeper = keeper
        self.dtype = dtype
        self._kept: set[str] = set()

    def __deepcopy__(self, memo: dict[int, object]) -> Streaming:
        return self

    def to_dict(self) -> dict[str, Any]:
        return {"quant_method": self.quant_method}

    def finish(self, model: PreTrainedModel, initialized: Iterable[str]) -> dict[int, str]:
        """Leave no trace of how the model was loaded; also weights that are tied become placeholders.

        Returns what the weights of the placeholders are kept as, by ``id``.

        ``initialized``: parameters that are no part of the checkpoint, and stay.
        """
        model.hf_quantizer.remove_quantization_config(model)
        del model.is_quantized
        for module in model.modules():
            if isinstance(module, PreTrainedModel):
                module.config.__dict__.pop("_is_quantized", None)
        stays = {id(parameter) for name in initialized if (parameter := _weight(model, name)) is not None}
        placeholders: dict[int, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if is_weight(parameter) and not parameter.is_meta and id(parameter) not in stays:
                self.keep(name, parameter.data)
                placeholders[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"))
        for module in model.modules():
            for key, parameter in module._parameters.items():
                module._parameters[key] = placeholders.get(id(parameter), parameter)
        names: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if parameter.is_meta and name in self._kept:
                names.setdefault(id(parameter), name)
        without = [name for name, p in model.named_parameters() if p.is_meta and id(p) not in names]
        assert not without, f"the checkpoint has given nothing for {without}"
        return names

    def keep(self, name: str, weight: torch.Tensor) -> None:
        self._kept.add(name)
        self.keeper.keep(name, weight)


@register_quantizer(QUANT_METHOD)
class StreamingQuantizer(HfQuantizer):
    """Sees every weight between the checkpoint and the model."""

    quantization_config: Streaming

    def __init__(self, quantization_config: Streaming, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.mismatched: set[str] = set()

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return self.quantization_config.dtype

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **kwargs: Any) -> bool:
        return param_name not in self.mismatched and _weight(model, param_name) is not None

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> None:
        self.tied = {*model.all_tied_weights_keys, *model.all_tied_weights_keys.values()}
        self.quantization_config.keeper.begin(model, map(Path, kwargs.get("checkpoint_files") or ()))

    def get_quantize_ops(self) -> ConversionOps:
        return _Keep(self)

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return True


class _Keep(ConversionOps):
    """A checkpoint's weight into a placeholder."""

    def __init__(self, hf_quantizer: StreamingQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def convert(
        self, input_dict: dict[str, Any], model: nn.Module | None = None, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        return {
            name: self._kept(name, value[0] if isinstance(value, list) else value, model)
            for name, value in input_dict.items()
        }

    def _kept(self, name: str, weight: torch.Tensor, model: nn.Module | None) -> torch.Tensor:
        quantizer, empty = self.hf_quantizer, _weight(model, name)
        if empty is None:
            return weight
        if weight.shape != empty.shape:  # transformers makes it anew, or says what is wrong
            quantizer.mismatched.add(name)
            return weight
        # as transformers would have cast it: to a type of the model's own where it has one
        loaded = quantizer.quantization_config.dtype
        dtype = weight.dtype if weight.dtype != loaded else empty.dtype
        if name in quantizer.tied:  # transformers compares the values of two that are to be one
            return weight.to(dtype)
        quantizer.quantization_config.keep(name, weight)
        return torch.empty(weight.shape, dtype=dtype, device="meta")


def _weight(model: Any, name: str) -> nn.Parameter | None:
    """The weight of that name, if it is one."""
    module, key = get_module_from_name(model, name)
    parameter = module._parameters.get(key)
    return parameter if parameter is not None and is_weight(parameter) else None


def is_weight(parameter: nn.Parameter) -> bool:
    """Whether it is one that a bank stores."""
    return parameter.dim() >= 2 and parameter.is_floating_point()
