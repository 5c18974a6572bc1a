from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import ModuleChoice
from jointsearch.search.additive.options import Options

MakeOptions = Callable[..., Options]


@pytest.mark.parametrize("group_by", ["block", "part", "module"])
@pytest.mark.parametrize(
    ("quantization", "lora"),
    [
        (QuantizationSettings(), LoraSettings()),
        (QuantizationSettings(double_quant=False), LoraSettings(dtype="bfloat16")),
        (QuantizationSettings(), LoraSettings(variant="dora")),  # norms come with the first rank
    ],
)
def test_bytes_are_those_of_the_plan(
    make_options: MakeOptions, group_by: str, quantization: QuantizationSettings, lora: LoraSettings
) -> None:
    """The embedding's weight is tied to the head, biases and a part that is left out count too."""
    options = make_options(quantization, lora, group_by=group_by, exclude=("layers.1.mlp.*",))
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = np.array([rng.integers(len(entry.bytes)) for entry in options.groups])
        plan = options.plan(chosen)
        assert options.model_bytes(chosen) == plan_cost(options.layout, plan).model_bytes
        values = options.space.params_of(plan)
        assert values == options.params(chosen)
        assert options.chosen(values).tolist() == chosen.tolist()


def test_features_by_hand(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 8, 16), ranks=(0, 3, 15))
    mlp = next(entry for entry in options.groups if entry.group.name == "layers.0.mlp")
    assert mlp.kind == ("layers.*.mlp", ("nf4", "int8", "16bit"), (0, 3, 15))
    # steps to 8 and to 16 bits, to rank 3 and to rank 15; log2(1 + rank) is 0, 2, 4: each is half the way.
    # From 4 to 8 bits 0.083 of an error of 0.09 goes.
    half, most = 0.5, 0.083 / 0.09
    expected = [
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 1, 0, most * half],
        [1, 0, 1, 1, most],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, half],
        [1, 1, 1, 1, 1],
    ]
    assert mlp.features == pytest.approx(np.array(expected), abs=1e-12)
    embedding = next(entry for entry in options.groups if entry.group.name == "embedding")
    assert embedding.features.tolist() == [[0, 0], [1, 0], [1, 1]]  # it has no adapter


def test_a_plan_from_outside_lies_between_the_choices(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 16), ranks=(0, 3, 15))
    inside = options.space.plan(options.space.uniform("16bit", 3))
    assert options.features_of(inside) == pytest.approx(
        options.design(options.chosen(options.space.uniform("16bit", 3))[None])[0]
    )
    # of one feed-forward network a module has 8 bits (not yet 16) and rank 7, the other rank 63
    mlp = {
        "layers.0.mlp.up": ModuleChoice(bits=8, rank=7),
        "layers.0.mlp.down": ModuleChoice(bits=16, rank=63),
    }
    outside = inside.model_copy(update={"modules": inside.modules | mlp})
    assert options.space.params_of(outside) is None
    found = options.features_of(outside)
    group = [entry.group.name for entry in options.groups].index("layers.0.mlp")
    start, stop = options.offsets[group : group + 2]
    # both have 6144 weights: log2(8) = 3 is half the way from 2 to 4
    assert found[start:stop] == pytest.approx([(0 + 1) / 2, 1, (0.5 + 1) / 2, (0 + 1) / 2])
    others = np.r_[0:start, stop : len(found)]
    assert found[others].tolist() == options.features_of(inside)[others].tolist()
