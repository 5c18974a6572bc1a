"""What study files name and the domain does not know: samplers and strategies.

Here are their names alone; what they are is registered where it is written, in ``search.samplers`` and in
``strategies``; whoever uses one knows its type.
"""

from __future__ import annotations

from typing import Any

from jointsearch.registry import Registry

SAMPLERS: Registry[Any] = Registry(
    "sampler",
    folder="jointsearch.search.samplers",
    first=("additive", "nsga2", "tpe", "gp", "random"),
)

STRATEGIES: Registry[Any] = Registry(
    "strategy",
    folder="jointsearch.strategies.rules",
    named_by_file=False,
    first=("uniform", "lora", "llm-int8", "qlora"),
)
