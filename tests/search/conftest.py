from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jointsearch.config.space import SpaceSettings
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.search.additive.offsets import NO_RATE
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.surrogate import Observations
from jointsearch.space import SearchSpace

MakeOptions = Callable[..., Options]
Observe = Callable[..., Observations]


@pytest.fixture
def make_options(layout: ModelLayout) -> MakeOptions:
    """The options of the small layout, for other settings of the space, quantization and adapters."""

    def make(
        quantization: QuantizationSettings | None = None, lora: LoraSettings | None = None, **settings: Any
    ) -> Options:
        space = SearchSpace.build(layout, SpaceSettings(**settings), quantization, lora)
        return Options.of(space, layout)

    return make


@pytest.fixture
def observe() -> Observe:
    """Trials of plans (their options), each with its value, seed and number of its plan."""

    def make(
        options: Options,
        chosen: NDArray[np.int64],
        values: NDArray[np.float64],
        seeds: Any = 0,
        plans: Any = None,
        rates: Any = NO_RATE,
    ) -> Observations:
        num = len(chosen)
        return Observations(
            design=options.design(chosen),
            values=np.asarray(values, dtype=float),
            seeds=np.broadcast_to(np.asarray(seeds, dtype=np.int64), num),
            plans=np.arange(num) if plans is None else np.asarray(plans, dtype=np.int64),
            model_bytes=options.model_bytes(chosen),
            rates=np.broadcast_to(np.asarray(rates, dtype=np.int64), num),
        )

    return make
