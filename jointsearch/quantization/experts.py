"""The weights of a layer's experts, which transformers keeps in one parameter of three dimensions.

What replaces them is a tensor that is kept quantized and is read as what it stands for, so that the model's
own code, and PEFT's ``target_parameters``, go on as before. (A parametrization, as bitsandbytes has one, does
not go with PEFT's: it leaves its own behind at every forward pass; PEFT 0.21.2.) The quantized numbers are
those of a layer of the format that has the rows of all experts below each other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._pytree import tree_map

from jointsearch.errors import UnsupportedError
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.quantization.formats.base import empty_module, fill, matrix_of, quantized

_aten = torch.ops.aten


class Modules(Protocol):
    """What has modules by their paths: a model, or a bank."""

    def get_submodule(self, path: str) -> nn.Module: ...


class QuantizedExperts(torch.Tensor):
    """A frozen weight of shape (experts, rows, columns) in a format; every operation sees its values."""

    layer: nn.Module
    """Of the format, with a weight of shape (experts · out_features, in_features)."""
    transposed: bool
    """Whether the rows of an expert are its inputs."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(
        cls, layer: nn.Module, shape: torch.Size, dtype: torch.dtype, transposed: bool
    ) -> QuantizedExperts:
        made: QuantizedExperts = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=layer.weight.device, requires_grad=False
        )
        made.layer, made.transposed = layer, transposed
        return made

    def __init__(self, layer: nn.Module, shape: torch.Size, dtype: torch.dtype, transposed: bool) -> None:
        """``dtype``: of the values that are seen."""

    @property
    def format_name(self) -> str:
        return str(self.layer.format_name)

    def dequantized(self) -> torch.Tensor:
        """The values, in the tensor's own shape and type."""
        return _as_stack(matrix_of(self.layer), self.shape, self.transposed).to(self.dtype)

    def like(self, layer: nn.Module, dtype: torch.dtype) -> QuantizedExperts:
        """The same shape with the weight of another layer."""
        return QuantizedExperts(layer, self.shape, dtype, self.transposed)

    def __repr__(self) -> str:
        return f"QuantizedExperts({tuple(self.shape)}, {self.format_name})"

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedExperts:
        if id(self) not in memo:
            memo[id(self)] = as_parameter(self.like(copy.deepcopy(self.layer, memo), self.dtype))
        copied: QuantizedExperts = memo[id(self)]
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, QuantizedExperts):
            if func in (_aten.detach.default, _aten.alias.default, _aten.clone.default):
                return first.like(first.layer, first.dtype)
            if func is _aten._to_copy.default:
                layer, device = first.layer, kwargs.get("device")
                if device not in (None, layer.weight.device):
                    layer = copy.deepcopy(layer).to(device)
                return first.like(layer, kwargs.get("dtype") or first.dtype)
            if func is _aten.set_.source_Tensor and args[1] is first:  # PEFT's parametrizations, of itself
                return first
            if func._schema.is_mutable:
                raise UnsupportedError(
                    f"quantized experts cannot be changed in place ({func.__name__}): merge an adapter into "
                    "the model in 16 bits"
                )
        values = lambda value: value.dequantized() if isinstance(value, QuantizedExperts) else value  # noqa: E731
        return func(*tree_map(values, args), **tree_map(values, kwargs))

    # with these two torch swaps whole tensors where a model moves, attributes and all

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["layer"], (self.shape, self.dtype, self.transposed)

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Any], context: Any, size: Any, stride: Any) -> torch.Tensor:
        return QuantizedExperts(inner["layer"], *context)


def expert_parameters(module: nn.Module) -> list[str]:
    """The names of those parameters of a module that hold a matrix for every expert."""
    if not type(module).__name__.endswith("Experts"):
        return []
    return [name for name, value in module.named_parameters(recurse=False) if value.dim() == 3]


def expert_shape(module: nn.Module, parameter: str) -> tuple[int, int, int]:
    """(experts, out_features, in_features) of one of them, by the rule that PEFT goes by."""
    num_experts, rows, columns = getattr(module, parameter).shape
    return (num_experts, columns, rows) if is_transposed(module) else (num_experts, rows, columns)


def is_transposed(module: nn.Module) -> bool:
    """Whether the module keeps (in_features, out_features) of every expert; PEFT looks at the same."""
    return bool(getattr(module, "is_transposed", False))


def experts_at(model: Modules, name: str) -> tuple[nn.Module, str] | None:
    """The module and its parameter of that name; None where the name is a module's, or nothing's."""
    path, _, parameter = name.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return None
    return (module, parameter) if parameter in module._parameters else None


def empty_experts(
    module: nn.Module, parameter: str, name: str, settings: QuantizationSettings, dtype: torch.dtype
) -> nn.Module:
    """The layer of the format ``name`` that can hold a parameter's weight, without content."""
    num_experts, out_features, in_features = expert_shape(module, parameter)
    with torch.device("meta"):
        like = nn.Linear(in_features, num_experts * out_features, bias=False)
    return empty_module(like, name, settings, dtype)


def quantized_experts(
    module: nn.Module,
    parameter: str,
    weight: torch.Tensor,
    name: str,
    settings: QuantizationSettings,
    dtype: torch.dtype,
    computed: torch.dtype,
) -> QuantizedExperts:
    """``weight``, which ``parameter`` has in a checkpoint, in the format ``name``.

    ``dtype`` is the model's 16-bit type, ``computed`` the one that it computes in.
    """
    layer = empty_experts(module, parameter, name, settings, computed)
    fill(layer, quantized(layer, expert_matrix(weight, module), dtype))
    return experts_of(layer, module, parameter, computed)


def experts_of(layer: nn.Module, module: nn.Module, parameter: str, dtype: torch.dtype) -> Any:
    """What ``parameter`` of ``module`` becomes where ``layer`` has its weight, read in ``dtype``."""
    shape = getattr(module, parameter).shape
    return as_parameter(QuantizedExperts(layer, shape, dtype, is_transposed(module)))


def expert_matrix(weight: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """The weight of a module's experts as a layer has it: their rows below each other."""
    return (weight.mT if is_transposed(module) else weight).flatten(0, 1)


def as_parameter(experts: QuantizedExperts) -> Any:
    """The same as a frozen parameter."""
    return nn.Parameter(experts, requires_grad=False)


def weight_matrix(model: Modules, name: str) -> torch.Tensor:
    """What is multiplied by at that place, float32, shape (out_features, in_features); experts' rows below
    each other."""
    found = experts_at(model, name)
    if found is None:
        return matrix_of(model.get_submodule(name))
    module, parameter = found
    weight = getattr(module, parameter)
    if isinstance(weight, QuantizedExperts):
        return matrix_of(weight.layer)
    return expert_matrix(weight.data, module).float()


def _saved_name(parameter: str) -> str:
    """Of what is saved in place of a parameter: not its own, which transformers' conversions of checkpoints
    look for, nor one with the word weight, by which it finds the tensors of a layer."""
    return f"quantized_{parameter.replace('weight', 'w')}"


def as_saved(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A model's state with the tensors of layers, which can be saved, in place of quantized experts."""
    saved: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if isinstance(value, QuantizedExperts):
            path, _, parameter = name.rpartition(".")
            value.layer.state_dict(destination=saved, prefix=f"{path}.{_saved_name(parameter)}.")
        else:
            saved[name] = value
    return saved


def await_saved(
    module: nn.Module, parameter: str, name: str, settings: QuantizationSettings, dtype: torch.dtype
) -> nn.Module:
    """Put the layer that a checkpoint's tensors go to beside the parameter, which keeps its place: by their
    order PEFT nests adapters."""
    layer = empty_experts(module, parameter, name, settings, dtype)
    layer.expected = getattr(module, parameter).shape
    module._parameters[parameter] = None
    module._is_hf_initialized = True  # else transformers would draw what is not there
    module.add_module(_saved_name(parameter), layer)
    return layer


def take_saved(module: nn.Module, parameter: str, dtype: torch.dtype) -> None:
    """Make a parameter of the layer again, which has been loaded."""
    layer = module._modules.pop(_saved_name(parameter))
    assert layer is not None
    module._parameters[parameter] = as_parameter(
        QuantizedExperts(layer, layer.expected, dtype, is_transposed(module))
    )


def _as_stack(matrix: torch.Tensor, shape: torch.Size, transposed: bool) -> torch.Tensor:
    stack = matrix.view(shape[0], -1, matrix.shape[1])
    return stack.mT.contiguous() if transposed else stack
