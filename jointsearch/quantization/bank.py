"""The bank: the base model once, each of its modules once per format, trial models in milliseconds.

A trial's model is a copy of the base model's structure that shares every tensor with it and holds
the bank's quantized modules where the plan wants them. Nothing is reloaded or requantized, and what
a trial adds to its model (adapters, hooks, flags) goes away with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from jointsearch.plan.formats import QuantizationSettings
from jointsearch.quantization.experts import experts_at, quantized_experts
from jointsearch.quantization.formats.base import empty_module, fill, quantized
from jointsearch.quantization.tying import tied_modules


class QuantizedBank:
    """Not safe for several threads: a worker has one bank and runs one trial at a time.

    ``model`` is the base model on its device, in the type that it computes in, with the values it
    has in its 16-bit type ``dtype``; it must not change while the bank is in use.
    """

    def __init__(self, model: PreTrainedModel, settings: QuantizationSettings, dtype: torch.dtype) -> None:
        self._model = model.requires_grad_(False)
        self._settings = settings
        self._dtype = dtype
        self._tied = tied_modules(model)
        self._ready: dict[tuple[str, str], dict[int, object]] = {}

    @property
    def model(self) -> PreTrainedModel:
        """The base model, as it was before anything was quantized."""
        return self._model

    def assemble(
        self, formats: Mapping[str, str], copied: Callable[[str], bool] = lambda name: False
    ) -> PreTrainedModel:
        """A model whose named modules have these formats; all others are the base model's own.

        A trial that changes parameters of the base model gets copies of those that ``copied`` names.
        """
        # deepcopy takes from its memo whatever it finds there: tensors are shared, modules replaced
        shared = [t for name, t in self._model.named_parameters() if not copied(name)]
        memo: dict[int, object] = {id(t): t for t in shared}
        memo |= {id(t): t for t in self._model.buffers()}
        for name, weight_format in formats.items():
            memo |= self._quantized(name, weight_format)
        model = copy.deepcopy(self._model, memo)
        # PEFT looks at both before it wraps a bitsandbytes module
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
        return model

    def _quantized(self, name: str, weight_format: str) -> dict[int, object]:
        """The module in its format, and those tied to it, by the ids of what they replace."""
        if (name, weight_format) not in self._ready:
            found = experts_at(self._model, name)
            self._ready[name, weight_format] = (
                self._modules(name, weight_format) if found is None else self._experts(*found, weight_format)
            )
        return self._ready[name, weight_format]

    def _experts(self, module: nn.Module, parameter: str, weight_format: str) -> dict[int, object]:
        weight = getattr(module, parameter)
        return {
            id(weight): quantized_experts(
                module, parameter, weight.data, weight_format, self._settings, self._dtype, weight.dtype
            )
        }

    def _modules(self, name: str, weight_format: str) -> dict[int, object]:
        tensors: dict[str, torch.Tensor] = {}
        modules: dict[int, object] = {}
        for path in (name, *self._tied.get(name, ())):
            original = self._model.get_submodule(path)
            module = empty_module(original, weight_format, self._settings, original.weight.dtype)
            tensors = tensors or quantized(module, original.weight.data, self._dtype)
            fill(module, tensors)
            if getattr(original, "bias", None) is not None:
                module.bias = original.bias
            modules[id(original)] = module
        return modules
