"""Quantized modules: their formats, the bank that keeps them, and the transformers plug-in."""

import logging

# While it is imported, bitsandbytes reports an optional kernel that jointsearch never calls.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# One line per int8 layer and call, about a cast that LLM.int8() on a CPU always makes.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

# Importing transformers' model code imports the plug-in, and that imports the modules of this
# package: it must happen before one of them is half-way through its own imports.
import transformers.modeling_utils  # noqa: E402, F401
