"""The bytes of a plan, from its shapes alone, equal to what a saved checkpoint and adapter hold.

Every weight has the bytes of its format (``plan.formats``); biases and everything outside of the layout's
modules are 16-bit; adapters have their own type.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from jointsearch.plan.formats import FORMATS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan


@dataclass(frozen=True)
class PlanCost:
    """What a plan weighs. Bytes are those of the tensors in the saved files."""

    model_bytes: int
    """The checkpoint and the adapter together."""
    base_bytes: int
    adapter_bytes: int
    bytes_per_parameter: float
    """``model_bytes`` per parameter of the base model."""
    bits_per_weight: float
    """Stored bits, scales included, per weight of the layout's modules."""
    trainable_parameters: int
    trainable_share: float
    """Trainable parameters over all parameters, adapters included."""
    bytes_by_part: dict[str, int]
    """``model_bytes`` split into embedding, attention, …, and other."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def weight_bytes(spec: ModuleSpec, weight_format: str, settings: QuantizationSettings) -> int:
    """Bytes of the module's weight and its scales in a format, without the bias."""
    return FORMATS[weight_format].weight_bytes(spec.matrix_shape, settings)


def adapter_parameters(spec: ModuleSpec, rank: int, settings: LoraSettings) -> int:
    """Trained parameters of the module: those of the method's adapter, or of a new head."""
    head = spec.num_weights + spec.shape[0] * spec.has_bias if spec.trained else 0
    return spec.num_experts * settings.method.adapter_parameters(spec.shape, rank) + head


def module_bytes(
    spec: ModuleSpec, weight_format: str, rank: int, quantization: QuantizationSettings, lora: LoraSettings
) -> int:
    """All of ``model_bytes`` that is the module's: weight, scales, bias and adapter."""
    bias = 2 * spec.shape[0] * spec.has_bias
    adapter = adapter_parameters(spec, rank, lora) * adapter_element_bytes(lora)
    return weight_bytes(spec, weight_format, quantization) + bias + adapter


def adapter_element_bytes(settings: LoraSettings) -> int:
    return {"float32": 4, "bfloat16": 2}[settings.dtype]


def plan_cost(layout: ModelLayout, plan: Plan) -> PlanCost:
    """What ``plan`` weighs on the model of ``layout``; raises ``PlanError`` if it does not fit."""
    plan.check(layout)
    element_bytes = adapter_element_bytes(plan.lora)
    weights_bytes = bias_bytes = trainable = 0
    by_part: defaultdict[str, int] = defaultdict(int, {part.value: 0 for part in Part})
    for spec in layout.modules:
        choice = plan.modules[spec.name]
        weight = weight_bytes(spec, choice.format, plan.quantization)
        bias = 2 * spec.shape[0] * spec.has_bias
        parameters = adapter_parameters(spec, choice.rank, plan.lora)
        weights_bytes += weight
        bias_bytes += bias
        trainable += parameters
        by_part[spec.part.value] += weight + bias + parameters * element_bytes
    by_part["other"] = layout.other_bytes

    base_bytes = weights_bytes + bias_bytes + layout.other_bytes
    adapter_bytes = trainable * element_bytes
    return PlanCost(
        model_bytes=base_bytes + adapter_bytes,
        base_bytes=base_bytes,
        adapter_bytes=adapter_bytes,
        bytes_per_parameter=(base_bytes + adapter_bytes) / layout.num_parameters,
        bits_per_weight=8 * weights_bytes / sum(spec.num_weights for spec in layout.modules),
        trainable_parameters=trainable,
        trainable_share=trainable / (layout.num_parameters + trainable),
        bytes_by_part={part: num for part, num in by_part.items() if num},
    )
