"""The bank: a checkpoint's weights once per format, and models of plans that hold just what they use.

A trial's model is a copy of the base model's structure that shares every tensor with it and holds the
bank's quantized modules where the plan wants them. What a trial adds to its model (adapters, hooks,
flags) goes away with it. Weights that lie in a bank's files (``StoredWeights``) are read when a plan
first uses them, stay while plans do, and go before others come: a device holds one plan at a time. Modules
whose weights are to be streamed are the trial's own, with the files in place of numbers on the device.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from jointsearch.plan.formats import UNQUANTIZED, QuantizationSettings
from jointsearch.quantization.experts import empty_experts, expert_matrix, experts_at, experts_of
from jointsearch.quantization.formats.base import empty_module, fill, quantized
from jointsearch.quantization.stored_weights import StoredWeights
from jointsearch.quantization.tying import tied_modules


@dataclass(frozen=True)
class _Place:
    """Where the base model has a weight that can be quantized."""

    weight: nn.Parameter
    empty: Callable[[], nn.Module]
    """Makes a module of the format, without content, that can hold it."""
    matrix: Callable[[torch.Tensor], torch.Tensor]
    """Of the weight, what is quantized."""


class QuantizedBank:
    """Not safe for several threads: a worker has one bank and runs one trial at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: QuantizationSettings,
        dtype: torch.dtype,
        weights: StoredWeights | None = None,
    ) -> None:
        """``model``: the base model on its device, in the type that it computes in, with the values it has in
        its 16-bit type ``dtype``; it must not change while the bank is in use.

        Its parameters may be on the meta device if they are among ``weights``. Without these the bank keeps
        what it has quantized in memory.
        """
        self._model = model.requires_grad_(False)
        self._settings = settings
        self._dtype = dtype
        self._weights = weights
        self._names = weights.names if weights else {}
        self._tied = tied_modules(model)
        self._ready: dict[tuple[str, str], dict[int, object]] = {}
        """By name and format: what stands in a model for parts of the base model, by the ids of these."""

    @property
    def is_stored(self) -> bool:
        """Whether the weights lie in files."""
        return self._weights is not None

    @property
    def config(self) -> PreTrainedConfig:
        """That of the base model."""
        return self._model.config

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type that the base model computes in."""
        return self._model.dtype

    def get_submodule(self, path: str) -> nn.Module:
        """A module as it was before quantization; what is below it may have no content."""
        module = self._model.get_submodule(path)
        own = [p for p in module._parameters.values() if id(p) in self._names]
        if not own:
            return module
        memo: dict[int, object] = {id(t): t for t in (*module.parameters(), *module.buffers())}
        return copy.deepcopy(module, memo | {id(p): self._read(p) for p in own})

    def assemble(
        self,
        formats: Mapping[str, str],
        copied: Callable[[str], bool] = lambda name: False,
        streamed: Collection[str] = (),
    ) -> PreTrainedModel:
        """A model whose named modules have these formats; all others are the base model's own.

        A trial that changes parameters of the base model gets copies of those that ``copied`` names.
        ``streamed`` are the paths of modules that become the model's own, with their stored weights on the
        host, 16-bit ones in 16 bits.
        """
        self.keep(formats)
        # deepcopy takes from its memo whatever it finds there: tensors are shared, modules replaced
        memo: dict[int, object] = {id(t): t for t in self._model.buffers()}
        for name, weight_format in formats.items():
            if _module_path(self._model, name) in streamed:
                memo |= self._quantized(name, weight_format, streamed=True)
            else:
                memo |= self._of(name, weight_format, partial(self._quantized, name, weight_format))
        replaced = self._replaced(formats)
        for name, parameter in self._model.named_parameters():
            if id(parameter) in replaced:
                continue
            if name.rpartition(".")[0] in streamed:
                if self._weights is not None and id(parameter) in self._names:
                    memo[id(parameter)] = _frozen(self._weights.weight(self._names[id(parameter)], True))
            elif id(parameter) in self._names:
                read = partial(self._parameters, parameter)
                memo |= read() if copied(name) else self._of(name, UNQUANTIZED, read)
            elif not copied(name):
                memo[id(parameter)] = parameter
        model = copy.deepcopy(self._model, memo)
        # PEFT looks at both before it wraps a bitsandbytes module
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
        return model

    def keep(self, formats: Mapping[str, str]) -> None:
        """Let go of all that a plan with these formats does not use, and that can be read again."""
        if self._weights is None:
            return
        replaced = self._replaced(formats)
        wanted = set(formats.items()) | {
            (name, UNQUANTIZED) for name, p in self._model.named_parameters() if id(p) not in replaced
        }
        if self._ready.keys() - wanted:
            self._ready = {key: kept for key, kept in self._ready.items() if key in wanted}
            gc.collect()  # bitsandbytes' weights know their modules, which know their weights

    def store(self, name: str, weight_format: str) -> None:
        """See to it that the module is among the stored weights in a format, where there are such."""
        place = self._place(name, weight_format)
        if self._weights is not None and (stored := self._names.get(id(place.weight))) is not None:
            self._weights.make(stored, weight_format, self._settings, place.empty, place.matrix)

    def _of(self, name: str, weight_format: str, make: Callable[[], dict[int, object]]) -> dict[int, object]:
        if (name, weight_format) not in self._ready:
            self._ready[name, weight_format] = make()
        return self._ready[name, weight_format]

    def _replaced(self, formats: Mapping[str, str]) -> set[int]:
        """The ids of the base model's weights that a plan with these formats has quantized."""
        return {id(self._place(name, weight_format).weight) for name, weight_format in formats.items()}

    def _quantized(self, name: str, weight_format: str, streamed: bool = False) -> dict[int, object]:
        """The module in its format, and those tied to it, by the ids of what they replace."""
        place = self._place(name, weight_format)
        stored = self._names.get(id(place.weight))
        if self._weights is None or stored is None:
            tensors = quantized(place.empty(), place.matrix(place.weight.data), self._dtype)
        else:
            tensors = self._weights.quantized(
                stored, weight_format, self._settings, place.empty, place.matrix, on_host=streamed
            )
        if (found := experts_at(self._model, name)) is not None:
            layer = place.empty()
            fill(layer, tensors)
            return {id(place.weight): experts_of(layer, *found, place.weight.dtype)}
        modules: dict[int, object] = {}
        for path in (name, *self._tied.get(name, ())):
            original = self._model.get_submodule(path)
            module = empty_module(original, weight_format, self._settings, original.weight.dtype)
            fill(module, tensors)
            if getattr(original, "bias", None) is not None:
                module.bias = copy.deepcopy(original.bias) if streamed else original.bias
            modules[id(original)] = module
        return modules

    def _place(self, name: str, weight_format: str) -> _Place:
        if (found := experts_at(self._model, name)) is not None:
            module, parameter = found
            weight = getattr(module, parameter)
            empty = partial(empty_experts, *found, weight_format, self._settings, weight.dtype)
            return _Place(weight, empty, partial(expert_matrix, module=module))
        module = self._model.get_submodule(name)
        empty = partial(empty_module, module, weight_format, self._settings, module.weight.dtype)
        return _Place(module.weight, empty, lambda weight: weight)

    def _parameters(self, parameter: nn.Parameter) -> dict[int, object]:
        return {id(parameter): self._read(parameter)}

    def _read(self, parameter: nn.Parameter) -> nn.Parameter:
        """A stored parameter in the type that the device computes in."""
        assert self._weights is not None
        weight = self._weights.weight(self._names[id(parameter)])
        return _frozen(weight.to(parameter.dtype))


def _frozen(weight: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _module_path(model: PreTrainedModel, name: str) -> str:
    """Of the module that has the weight: that of experts is named by their parameter."""
    return name if experts_at(model, name) is None else name.rpartition(".")[0]
