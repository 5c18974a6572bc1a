"""8-bit integers with a scale for every row: channel-wise W8A16 of compressed-tensors.

Unlike LLM.int8() (``int8``) activations are not quantized.
"""

from jointsearch.quantization.formats.rows import GroupedIntegers

INT8_CHANNEL = GroupedIntegers(bits=8, group=None)
