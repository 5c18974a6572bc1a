"""4-bit integers with a scale for every 32 or 128 weights of a row: W4A16 of compressed-tensors."""

from jointsearch.quantization.formats.rows import GroupedIntegers

INT4_G32 = GroupedIntegers(bits=4, group=32)

INT4_G128 = GroupedIntegers(bits=4, group=128)
