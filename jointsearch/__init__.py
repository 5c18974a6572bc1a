"""Joint search of bit-widths and LoRA ranks per layer.

Importing this package lets transformers load mixed 4/8/16-bit checkpoints. It stays cheap: torch
and transformers are imported when something needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jointsearch.hf import register_when_transformers_is_there

if TYPE_CHECKING:
    from jointsearch.quantization.plugin import JointSearchConfig

__version__ = "0.1.0"
__all__ = ["JointSearchConfig", "__version__"]

register_when_transformers_is_there()


def __getattr__(name: str) -> Any:
    if name == "JointSearchConfig":
        from jointsearch.quantization.plugin import JointSearchConfig

        return JointSearchConfig
    raise AttributeError(f"module 'jointsearch' has no attribute '{name}'")
