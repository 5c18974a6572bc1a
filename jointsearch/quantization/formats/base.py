"""What a weight format must do, and what all formats share.

The bank and the transformers plug-in both quantize through this module, so a trial and a checkpoint that
was quantized on load hold the same bytes. A format is one file: a ``FormatImplementation``, and a
``plan.formats.WeightFormat`` that points to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.pytorch_utils import Conv1D

from jointsearch.errors import UnsupportedError
from jointsearch.plan.formats import FORMATS, QuantizationSettings
from jointsearch.plan.layout import ModuleSpec
from jointsearch.registry import load


class AsSaved(ConversionOps):
    """A checkpoint's tensors as they are."""

    def __init__(self, hf_quantizer: Any) -> None:
        """``hf_quantizer``: with it the loader casts nothing on the way here."""
        self.hf_quantizer = hf_quantizer

    def convert(self, input_dict: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        return {name: value[0] if isinstance(value, list) else value for name, value in input_dict.items()}


class FormatImplementation(ABC):
    """How weights are quantized, kept and multiplied in one format. Has no state.

    Its modules are ``nn.Linear`` and ``nn.Embedding``, or subclasses that multiply by something else:
    PEFT wraps them by their class. A quantized weight is the frozen parameter ``weight`` and ``buffers``.
    """

    buffers: tuple[str, ...] = ()
    """The module's buffers that belong to its weight, such as scales; modules that are tied share them."""

    serialized_names: tuple[str, ...] = ("weight",)
    """Names in a checkpoint, that of the module left out, of what ``deserialize`` reads. Buffers are loaded
    as they are."""

    deserialize: type[ConversionOps] = AsSaved
    """The transformers operation that makes the parameter ``weight`` of what was saved."""

    placeholder_dtype: torch.dtype | None = None
    """The type of an empty module's ``weight`` that awaits a checkpoint's: transformers casts to it. None
    where it has the right type from the beginning."""

    is_saved_flat: bool = False
    """Whether a saved ``weight`` has one dimension: one of the module's own shape and unpacked numbers would
    be taken for the weight itself where this plug-in is not imported, of which transformers only warns."""

    @abstractmethod
    def linear(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool,
        settings: QuantizationSettings,
        dtype: torch.dtype,
    ) -> nn.Linear:
        """An empty layer that computes in ``dtype``; it is made on the meta device."""

    @abstractmethod
    def embedding(
        self, num_embeddings: int, embedding_dim: int, settings: QuantizationSettings, dtype: torch.dtype
    ) -> nn.Embedding:
        """An empty table that gives rows in ``dtype``; it is made on the meta device."""

    @abstractmethod
    def quantize(self, empty: nn.Module, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """``weight``, of shape (out_features, in_features), as the parameter ``weight`` and the ``buffers``
        of ``empty``, by name, on the device where the weight is."""

    @abstractmethod
    def dequantize(self, module: nn.Module) -> torch.Tensor:
        """What the module multiplies by, shape (out_features, in_features), in a type of its own."""

    def filled(self, module: nn.Module) -> None:  # noqa: B027  most formats have nothing to do
        """Called once the module has its weight, before a module that is tied to it runs."""

    def check_dora(self, spec: ModuleSpec, device: torch.device) -> None:
        """Raise ``UnsupportedError`` where PEFT's DoRA is wrong beside a module of this format: it takes
        the norms of what PEFT dequantizes."""
        raise UnsupportedError(
            f"dora needs weights that PEFT can dequantize, but not those of {type(self).__name__} "
            f"({spec.name}); use another lora.variant, or another format"
        )


def implementation_of(name: str) -> FormatImplementation:
    """What realizes the quantized format of that name."""
    implementation: FormatImplementation = load(FORMATS[name].implementation)
    return implementation


def format_of(module: nn.Module | torch.Tensor) -> FormatImplementation | None:
    """The format of a module that ``empty_module`` has made, or of quantized experts; None of any other."""
    name = getattr(module, "format_name", None)
    return None if name is None else implementation_of(name)


def empty_module(
    module: nn.Module, name: str, settings: QuantizationSettings, dtype: torch.dtype
) -> nn.Module:
    """A module in the format ``name`` without content (on the meta device) that can stand in for ``module``.

    ``dtype`` is the type it computes in.
    """
    implementation = implementation_of(name)
    empty: nn.Module
    with torch.device("meta"):
        if isinstance(module, nn.Embedding):
            empty = implementation.embedding(module.num_embeddings, module.embedding_dim, settings, dtype)
            if (scale := embedding_scale(module)) != 1.0:
                empty.__class__ = _scaled(type(empty))  # type: ignore[arg-type]
                # the type that the rows have rounds it, as it does in the model
                empty.embed_scale = torch.tensor(scale, dtype=dtype, device="cpu").item()
        else:
            out_features, in_features = linear_shape(module)
            has_bias = module.bias is not None
            empty = implementation.linear(in_features, out_features, has_bias, settings, dtype)
            if empty.bias is not None:
                empty.bias = nn.Parameter(empty.bias.to(dtype))
    empty.format_name = name
    empty.source_cls = type(module)  # tells whether a checkpoint's weight is transposed
    return empty.requires_grad_(False)


def quantized(empty: nn.Module, weight: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """``weight`` as the checkpoint has it, as the parameter ``weight`` and the buffers of ``empty``.

    The weight is rounded to the model's 16-bit type ``dtype`` first: what is quantized is the model
    that the plan is for, in whatever type a checkpoint happens to store it.
    """
    implementation = format_of(empty)
    assert implementation is not None
    if issubclass(empty.source_cls, Conv1D):
        weight = weight.T
    weight = weight.to(dtype).to(compute_dtype(weight.device, dtype)).contiguous()
    return implementation.quantize(empty, weight)


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an empty module its quantized weight, or that of a module that is tied to it."""
    implementation = format_of(module)
    assert implementation is not None
    for name, tensor in tensors.items():
        setattr(module, name, tensor)
    implementation.filled(module)


def matrix_of(module: nn.Module) -> torch.Tensor:
    """What the module multiplies by, float32, shape (out_features, in_features); of an embedding its rows."""
    implementation = format_of(module)
    if implementation is not None:
        return implementation.dequantize(module).float()
    weight = module.weight.data
    return (weight.T if isinstance(module, Conv1D) else weight).float()


def compute_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type that a device computes in where the model's 16-bit type is ``dtype``.

    CPUs compute in float32: their 16-bit kernels are slower and less exact. The weights keep the
    values that they have in 16 bits.
    """
    return torch.float32 if device.type == "cpu" else dtype


def is_linear(module: nn.Module) -> bool:
    """Whether the module can be replaced by one that multiplies: a subclass may use its weight otherwise."""
    return type(module) is Conv1D or (isinstance(module, nn.Linear) and _multiplies(type(module)))  # type: ignore[arg-type]


@cache
def _multiplies(kind: type) -> bool:
    """Whether layers of this class compute x Wᵀ + b and nothing else, by a small one (Falcon's do)."""
    if kind is nn.Linear:
        return True
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
            layer, x = kind(4, 3), torch.randn(2, 5, 4)
            return torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-6)
    except Exception:  # it is made, called, or answers in another way
        return False


def embedding_scale(module: nn.Module) -> float | None:
    """What an embedding multiplies its rows by (Gemma's and BART's do); None where it does something else."""
    if type(module) is nn.Embedding:
        return 1.0
    if not isinstance(module, nn.Embedding) or not _scales(type(module)):  # type: ignore[arg-type]
        return None
    scale = getattr(module, "scalar_embed_scale", None) or module.embed_scale
    return float(scale)


@cache
def _scales(kind: type) -> bool:
    """Whether embeddings of this class give rows times their ``embed_scale``, by a small one."""
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
            table, ids = kind(4, 3, 0, embed_scale=2.5), torch.arange(4)
            return torch.allclose(table(ids), 2.5 * table.weight)
    except Exception:  # it is made, called, or answers in another way
        return False


@cache
def _scaled(kind: type) -> type[nn.Embedding]:
    """The same table, whose rows are multiplied by its ``embed_scale``."""

    class Scaled(kind):
        embed_scale = 1.0

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * self.embed_scale

    Scaled.__name__ = Scaled.__qualname__ = f"Scaled{kind.__name__}"
    return Scaled


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """(out_features, in_features) of an ``nn.Linear`` or a ``Conv1D``, which stores its transpose."""
    rows, columns = module.weight.shape
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def unquantized_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The floating-point tensors of a checkpoint that are no part of a quantized weight, by name."""
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers())
    quantized_names = {
        f"{path}.{name}"
        for path, module in model.named_modules(remove_duplicate=False)
        if (implementation := format_of(module)) is not None
        for name in ("weight", *implementation.buffers)
    } | {name for name, tensor in tensors.items() if format_of(tensor) is not None}
    return {
        name: tensors[name]
        for name in model.state_dict()
        if name in tensors and tensors[name].is_floating_point() and name not in quantized_names
    }


def round_to(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give all that is not quantized the values it has in the 16-bit type, whatever it computes in."""
    for tensor in unquantized_tensors(model).values():
        tensor.data = tensor.data.to(dtype).to(tensor.dtype)
