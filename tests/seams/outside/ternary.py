"""A weight format: ternary weights, five to a byte, with a float16 scale per output."""

from jointsearch.plan.formats import QuantizationSettings, WeightFormat, register_format


def _bytes(shape: tuple[int, int], settings: QuantizationSettings) -> int:
    return -(-shape[0] * shape[1] // 5) + 2 * shape[0]


register_format(WeightFormat("ternary", 2, 0.4, _bytes, "ternary:Ternary"))
