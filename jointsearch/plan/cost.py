"""The bytes of a plan, from its shapes alone, equal to what a saved checkpoint and adapter hold.

For a weight of n = out · in elements, with blocks of 64 weights and of 256 scales as in QLoRA
(arXiv 2305.14314, section 3), bitsandbytes saves

    NF4                    ⌈n/2⌉ packed + 4·⌈n/64⌉ scales (float32) + 64 code
    NF4, double quantized  ⌈n/2⌉ packed + ⌈n/64⌉ scales (uint8) + 4·⌈⌈n/64⌉/256⌉ second scales
                           + 64 code + 1024 second code
    int8                   n + 4·out scales (float32) + 1 format byte
    16 bits                2·n

The only thing left out is the ``quant_state`` text of an NF4 module (about 170 bytes): its length
depends on a printed float. Biases and everything outside of the layout's modules are 16-bit.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.plan import LoraSettings, Plan, QuantizationSettings

NF4_BLOCK = 64
NF4_NESTED_BLOCK = 256
NF4_CODE_BYTES = 16 * 4
NF4_NESTED_CODE_BYTES = 256 * 4


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


def weight_bytes(spec: ModuleSpec, bits: int, settings: QuantizationSettings) -> int:
    """Bytes of the module's weight and its scales at ``bits``, without the bias."""
    n = spec.num_weights
    if bits == 16:
        return 2 * n
    if bits == 8:
        return n + 4 * spec.shape[0] + 1
    num_scales = -(-n // NF4_BLOCK)
    packed_bytes = -(-n // 2) + NF4_CODE_BYTES
    if not settings.double_quant:
        return packed_bytes + 4 * num_scales
    nested_bytes = 4 * -(-num_scales // NF4_NESTED_BLOCK) + NF4_NESTED_CODE_BYTES
    return packed_bytes + num_scales + nested_bytes


def adapter_parameters(spec: ModuleSpec, rank: int, settings: LoraSettings) -> int:
    """Trained parameters of the module: LoRA's A (rank, in) and B (out, rank) with DoRA's norms (out) or
    AdaLoRA's singular values (rank), or a new head."""
    head = spec.num_weights + spec.shape[0] * spec.has_bias if spec.trained else 0
    norms = spec.shape[0] if settings.variant == "dora" and rank else 0
    values = rank if settings.variant == "adalora" else 0
    return rank * sum(spec.shape) + norms + values + head


def adapter_element_bytes(settings: LoraSettings) -> int:
    return {"float32": 4, "bfloat16": 2}[settings.dtype]


def plan_cost(layout: ModelLayout, plan: Plan) -> PlanCost:
    """What ``plan`` weighs on the model of ``layout``; raises ``PlanError`` if it does not fit."""
    layout.check(plan)
    element_bytes = adapter_element_bytes(plan.lora)
    weights_bytes = bias_bytes = trainable = 0
    by_part: defaultdict[str, int] = defaultdict(int, {part.value: 0 for part in Part})
    for spec in layout.modules:
        choice = plan.modules[spec.name]
        weight = weight_bytes(spec, choice.bits, plan.quantization)
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
