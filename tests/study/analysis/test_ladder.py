"""The ladder's plans and bytes, counted by hand on the small layout, and the line between two of them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.space import build_space
from jointsearch.study.analysis.equal_bytes import Entry, Rival, holm, one_sided_p, rivals_of, sequential_p
from jointsearch.study.analysis.ladder import Rung, ladder, ladder_ranks, neighbours

Configure = Callable[..., StudyConfig]


def test_ranks_are_dense() -> None:
    assert ladder_ranks(0) == []
    assert ladder_ranks(1) == [1]
    assert ladder_ranks(5) == [1, 2, 3, 4, 5]
    assert ladder_ranks(32) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    assert ladder_ranks(40) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40]


@pytest.fixture
def rungs(configure: Configure, layout: ModelLayout) -> list[Rung]:
    config = configure(search_space={"bits": [4, 16], "ranks": [0, 4]})
    return ladder(build_space(config, layout), layout)


def test_every_series_has_every_rank(rungs: list[Rung], layout: ModelLayout) -> None:
    names = [rung.origin.name for rung in rungs]
    ranks = (1, 2, 3, 4)
    for kind, shown in (("uniform", ("4-bit", "16-bit")), ("embeddings and head finer", ("4-bit",))):
        for bits in shown:
            assert [f"{kind} {bits} rank {rank}" in names for rank in ranks] == [True] * 4
    assert len({rung.plan for rung in rungs}) == len(rungs)
    for rung in rungs:
        assert rung.model_bytes == plan_cost(layout, rung.plan).model_bytes
        assert rung.plan.ranks
        raised = {
            spec.part
            for spec in layout.modules
            if spec.quantizable and rung.plan.modules[spec.name].format == "16bit"
        }
        if rung.series == "embeddings and head finer nf4":
            assert raised <= {Part.EMBEDDING, Part.HEAD} and raised
        adapted = {spec.part for spec in layout.modules if spec.name in rung.plan.ranks}
        if rung.series.startswith("feed-forward only"):
            assert adapted == {Part.MLP}
        if rung.series.startswith("attention only"):
            assert adapted == {Part.ATTENTION}


def test_last_blocks_of_every_stack(configure: Configure) -> None:
    """Five blocks of an encoder, two of a decoder: the last three and one, and of a quarter two and one."""

    def linear(name: str, block: str, part: str) -> dict[str, object]:
        return {"name": name, "kind": "linear", "block": block, "part": part, "shape": [64, 64]}

    modules = [
        linear(f"{block}.{part}", block, part)
        for block in [*(f"encoder.block.{i}" for i in range(5)), "decoder.block.0", "decoder.block.1"]
        for part in ("attention", "mlp")
    ]
    # what is in no block is in no last one
    modules.append(linear("projection", "", "mlp"))
    layout = ModelLayout.model_validate(
        {"architecture": "T", "dtype": "float16", "modules": modules, "other_parameters": 0, "other_bytes": 0}
    )
    space = build_space(configure(search_space={"bits": [4], "ranks": [0, 2]}), layout)
    adapted: dict[str, set[str]] = {}
    for rung in ladder(space, layout):
        adapted.setdefault(rung.series, set()).update(rung.plan.ranks)
    half = [*(f"encoder.block.{i}" for i in (2, 3, 4)), "decoder.block.1"]
    assert adapted["last half of the blocks nf4"] == {f"{b}.{p}" for b in half for p in ("attention", "mlp")}
    quarter = ("encoder.block.3", "encoder.block.4", "decoder.block.1")
    assert adapted["feed-forward of the last quarter nf4"] == {f"{block}.mlp" for block in quarter}
    assert "projection" in adapted["uniform nf4"]


def test_neighbours_are_the_nearest_of_each_series(rungs: list[Rung]) -> None:
    uniform = [rung for rung in rungs if rung.series == "uniform nf4"]
    at = (uniform[1].model_bytes + uniform[2].model_bytes) // 2
    near = list(neighbours(rungs, at))
    assert {uniform[1], uniform[2]} <= set(near)
    assert not {uniform[0], uniform[3]} & set(near)
    assert list(neighbours(rungs, 1)) == []  # nothing is so small


def entry(size: int, *losses: float) -> Entry:
    return Entry(0, f"{size}", size, dict(enumerate(losses)))


def test_the_line_is_the_kinder_of_two() -> None:
    falls, rises = entry(100, 2.0), entry(400, 1.0)
    # at 200 bytes: a third of the way over bytes, half of it over logarithms
    assert Rival(falls, rises, 200).losses([0]) == pytest.approx([1.5])
    assert Rival(entry(100, 1.0), entry(400, 2.0), 200).losses([0]) == pytest.approx([4 / 3])
    assert Rival(falls, falls, 100).losses([0]) == [2.0]


def test_of_all_pairs_the_kindest_and_the_nearest() -> None:
    rungs = [entry(100, 1.0), entry(150, 3.0), entry(300, 3.0), entry(400, 1.0)]
    kindest, nearest = rivals_of(entry(200, 2.0), rungs, [0])
    assert (kindest.lower.model_bytes, kindest.upper.model_bytes) == (100, 400)
    assert (nearest.lower.model_bytes, nearest.upper.model_bytes) == (150, 300)
    assert rivals_of(entry(50, 2.0), rungs, [0]) == ()
    assert rivals_of(entry(500, 2.0), rungs, [0]) == ()


def test_the_kindest_pair_by_brute_force() -> None:
    """Over ladders with rungs of equal bytes, and of the plan's own."""
    draw = random.Random(0)
    for _ in range(100):
        rungs = [
            entry(draw.randint(100, 130), draw.gauss(0, 1), draw.gauss(0, 1))
            for _ in range(draw.randint(2, 30))
        ]
        plan = entry(draw.randint(100, 130), 0.0, 0.0)
        pairs = [
            Rival(lower, upper, plan.model_bytes)
            for lower, upper in itertools.product(rungs, rungs)
            if lower.model_bytes <= plan.model_bytes <= upper.model_bytes
        ]
        found = rivals_of(plan, rungs, [0, 1])
        assert bool(found) == bool(pairs)
        if found:
            best = min(sum(rival.losses([0, 1])) for rival in pairs)
            assert sum(found[0].losses([0, 1])) == pytest.approx(best)


def test_p_values() -> None:
    from scipy.stats import ttest_1samp

    values = [0.3, 0.1, 0.25, 0.2]
    for n in (2, 3, 4):
        expected = ttest_1samp(values[:n], 0.0, alternative="greater").pvalue
        assert one_sided_p(values[:n]) == pytest.approx(float(expected), rel=1e-12)
    looks = [one_sided_p(values[:n]) / (2 * (1 / n - 1 / (n + 1))) for n in (2, 3, 4)]
    assert sequential_p(values) == pytest.approx(min(looks))
    assert sequential_p(values[:1]) is None
    assert (one_sided_p([0.5, 0.5]), one_sided_p([-0.5, -0.5]), one_sided_p([0.0, 0.0])) == (0.0, 1.0, 1.0)
    assert math.fsum(2 * (1 / n - 1 / (n + 1)) for n in range(2, 10_000)) == pytest.approx(1, abs=1e-3)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([], 0.05) == []
