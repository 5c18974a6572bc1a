"""What study files name and the domain does not know: samplers and strategies.

Here are their names alone; what they are is registered where it is written, in ``search.samplers`` and in
``strategies``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jointsearch.registry import Registry

if TYPE_CHECKING:
    from jointsearch.search.samplers import Sampler
    from jointsearch.strategies.registry import Strategy

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    folder="jointsearch.search.samplers",
    first=("additive", "nsga2", "tpe", "gp", "random"),
)

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    folder="jointsearch.strategies.rules",
    named_by_file=False,
    first=("uniform", "lora", "llm-int8", "qlora"),
)
