"""Weight formats as a plan sees them: a name, nominal bits, exact bytes. No torch.

For a weight of n = out · in elements, with blocks of 64 weights and of 256 scales as in QLoRA
(arXiv 2305.14314, section 3), bitsandbytes saves

    nf4                    ⌈n/2⌉ packed + 4·⌈n/64⌉ scales (float32) + 64 code
    nf4, double quantized  ⌈n/2⌉ packed + ⌈n/64⌉ scales (uint8) + 4·⌈⌈n/64⌉/256⌉ second scales
                           + 64 code + 1024 second code
    int8                   n + 4·out scales (float32) + 1 format byte
    16bit                  2·n
    int4-g32, int4-g128    4·out·⌈in/8⌉ packed + 2·out·⌈in/32⌉ or 2·out·⌈in/128⌉ scales (bfloat16)
    int8-channel           4·out·⌈in/4⌉ packed + 2·out scales (bfloat16)
    q4_0, q8_0             18 or 34 for every 32 weights of a row

The first three are bitsandbytes' and 16 bits, the last three lie as compressed-tensors and GGUF have them.
The only thing left out is the ``quant_state`` text of an NF4 module (about 170 bytes): its length
depends on a printed float. What quantizes and multiplies is in ``jointsearch.quantization.formats``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from jointsearch.plan.record import Record
from jointsearch.registry import Registry

NF4_BLOCK = 64
NF4_NESTED_BLOCK = 256
NF4_CODE_BYTES = 16 * 4
NF4_NESTED_CODE_BYTES = 256 * 4

GGUF_BLOCK = 32
"""Weights of a row that share a scale in q4_0 and q8_0."""

_FOLDER = "jointsearch.quantization.formats"

ModuleKind = Literal["linear", "conv1d", "embedding", "experts"]


class QuantizationSettings(Record):
    """How quantized weights are stored and multiplied."""

    double_quant: bool = True
    """Quantize the NF4 scales too (QLoRA, section 3): 0.127 instead of 0.5 bits per weight."""

    int8_threshold: float = Field(default=6.0, ge=0)
    """Activations above it are multiplied in 16 bits (LLM.int8(), section 3.2); 0 turns it off."""


@dataclass(frozen=True)
class WeightFormat:
    """What a frozen weight can be stored in."""

    name: str
    bits: int
    """Nominal bits per weight, scales left out."""
    relative_error: float
    """‖W - Q(W)‖ / ‖W‖ of a normally distributed weight: what a search expects before it measures."""
    weight_bytes: Callable[[tuple[int, int], QuantizationSettings], int]
    """Bytes of a saved weight of shape (out_features, in_features) with its scales, the bias left out."""
    implementation: str = ""
    """``package.module:name`` of its ``FormatImplementation`` (``quantization.formats.base``), imported when
    a model is made; empty where the weight stays as it is."""
    kinds: tuple[ModuleKind, ...] = ("linear", "conv1d", "embedding", "experts")
    """Modules that can have it."""
    loftq: bool = False
    """Whether adapters can start at what quantization took away: its layers multiply by just its weight."""
    label: str = ""
    """How it is called beside a plan; by default its name."""

    @property
    def is_quantized(self) -> bool:
        return bool(self.implementation)

    @property
    def shown(self) -> str:
        return self.label or self.name


def _nf4_bytes(shape: tuple[int, int], settings: QuantizationSettings) -> int:
    n = shape[0] * shape[1]
    num_scales = -(-n // NF4_BLOCK)
    packed_bytes = -(-n // 2) + NF4_CODE_BYTES
    if not settings.double_quant:
        return packed_bytes + 4 * num_scales
    nested_bytes = 4 * -(-num_scales // NF4_NESTED_BLOCK) + NF4_NESTED_CODE_BYTES
    return packed_bytes + num_scales + nested_bytes


def _int8_bytes(shape: tuple[int, int], settings: QuantizationSettings) -> int:
    return shape[0] * shape[1] + 4 * shape[0] + 1


def _sixteen_bit_bytes(shape: tuple[int, int], settings: QuantizationSettings) -> int:
    return 2 * shape[0] * shape[1]


def _grouped_bytes(
    shape: tuple[int, int], settings: QuantizationSettings, *, bits: int, group: int | None
) -> int:
    rows, columns = shape
    num_scales = 1 if group is None else -(-columns // group)
    return rows * (4 * -(-columns * bits // 32) + 2 * num_scales)


def _gguf_bytes(shape: tuple[int, int], settings: QuantizationSettings, *, block_bytes: int) -> int:
    return shape[0] * -(-shape[1] // GGUF_BLOCK) * block_bytes


FORMATS = Registry[WeightFormat]("format")

NF4 = FORMATS.register(
    WeightFormat("nf4", 4, 0.09, _nf4_bytes, f"{_FOLDER}.nf4:NF4", loftq=True, label="4-bit")
)
INT8 = FORMATS.register(WeightFormat("int8", 8, 0.007, _int8_bytes, f"{_FOLDER}.int8:Int8", label="8-bit"))
SIXTEEN_BIT = FORMATS.register(WeightFormat("16bit", 16, 0.0, _sixteen_bit_bytes, label="16-bit"))

for _name, _bits, _group, _error, _place in (
    ("int4-g32", 4, 32, 0.095, "int4_groups:INT4_G32"),
    ("int4-g128", 4, 128, 0.111, "int4_groups:INT4_G128"),
    ("int8-channel", 8, None, 0.008, "int8_channel:INT8_CHANNEL"),
):
    _bytes = partial(_grouped_bytes, bits=_bits, group=_group)
    FORMATS.register(WeightFormat(_name, _bits, _error, _bytes, f"{_FOLDER}.{_place}", loftq=True))

for _name, _bits, _block_bytes, _error, _place in (
    ("q4_0", 4, 18, 0.086, "q4_0:Q4_0"),
    ("q8_0", 8, 34, 0.0054, "q8_0:Q8_0"),
):
    _bytes = partial(_gguf_bytes, block_bytes=_block_bytes)
    FORMATS.register(WeightFormat(_name, _bits, _error, _bytes, f"{_FOLDER}.{_place}", loftq=True))

OF_BITS = {entry.bits: entry.name for entry in (NF4, INT8, SIXTEEN_BIT)}
"""The formats that study files and plans call by their bits."""

UNQUANTIZED = SIXTEEN_BIT.name


def register_format(entry: WeightFormat) -> WeightFormat:
    """Make a weight format known by its name, for plans, study files and searches."""
    return FORMATS.register(entry)


def by_precision(names: Iterable[str]) -> tuple[str, ...]:
    """The formats from the coarsest to the finest: by bits, then by falling error."""
    return tuple(sorted(names, key=lambda name: (FORMATS[name].bits, -FORMATS[name].relative_error, name)))


def with_bits(bits: float, choices: Iterable[str] = OF_BITS.values()) -> str:
    """Of the choices the format whose bits are nearest to ``bits``, the coarser of two."""
    return min(by_precision(choices), key=lambda name: abs(FORMATS[name].bits - bits))
