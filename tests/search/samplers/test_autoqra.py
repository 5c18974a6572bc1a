from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest

from jointsearch.search.additive.options import Options
from jointsearch.search.attributes import PROBE
from jointsearch.search.probe import GroupScores, Probe
from jointsearch.search.samplers.autoqra import EPSILON, Ladder, importances

MakeOptions = Callable[..., Options]


@pytest.fixture
def options(make_options: MakeOptions) -> Options:
    """Two groups, the attention and the feed-forward network of one block."""
    return make_options(bits=(4, 8, 16), ranks=(0, 4, 16), exclude=("embed", "layers.1.*"))


def test_importances_are_scaled_gains(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 8, 16), ranks=(0, 4, 16), exclude=("embed",))
    study = optuna.create_study()
    assert importances(study, options).tolist() == [[0.5, 0.5]] * 4
    gains = {"layers.0.attention": 1.0, "layers.0.mlp": 3.0, "layers.1.attention": 2.0, "layers.1.mlp": 1.0}
    groups = {
        name: GroupScores(bits=(gain, 0.1, 0.0), ranks=(0.0, -1.0, -2.0)) for name, gain in gains.items()
    }
    study.set_user_attr(PROBE, Probe(kind="sensitivity", groups=groups).model_dump(mode="json"))
    found = dict(
        zip([entry.group.name for entry in options.groups], importances(study, options), strict=True)
    )
    assert {name: row[0] for name, row in found.items()} == {
        "layers.0.attention": 0.0,
        "layers.0.mlp": 1.0,
        "layers.1.attention": 0.5,
        "layers.1.mlp": 0.0,
    }
    assert {row[1] for row in found.values()} == {0.5}  # all ask for the same rank


def test_the_low_fidelity_by_hand(options: Options) -> None:
    ladder = Ladder(options, np.array([[1.0, 0.0], [0.5, 0.5]]))
    # 8 bits and rank 4: s_q = (8 - 4) / 12, s_r = 4 / 16; 16 bits and rank 0: 1 and 0
    plan = np.array([[1 * 3 + 1, 2 * 3 + 0]])
    assert ladder.shares(plan)[0].tolist() == [[4 / 12, 0.25], [1.0, 0.0]]
    expected = (0.5 * (4 / 12 + 0.25) + 0.5 * (1.0 + 0.0)) / 2 / 2
    assert ladder.low_fidelity(plan).tolist() == pytest.approx([expected])
    assert ladder.embedding(plan)[0].tolist() == pytest.approx(
        [4 / 12, 0.25, 1, 0, 0.5 * (4 / 12 + 1) / 2, 0.5 * 0.25 / 2]
    )


def test_the_first_plan_follows_the_importances(options: Options) -> None:
    ladder = Ladder(options, np.array([[0.0, 1.0], [0.9, 0.2]]))
    drawn = [ladder.warm_start(np.random.default_rng(seed)).tolist() for seed in range(200)]
    # 4 bits with rank 16, and 16 bits with rank 4: what is drawn anew is seldom the same in many starts
    assert max(drawn, key=drawn.count) == [0 * 3 + 2, 2 * 3 + 1]


def test_repair_steps_down_where_it_costs_least_per_byte(options: Options) -> None:
    importance = np.array([[0.9, 0.8], [0.1, 0.7]])
    ladder = Ladder(options, importance)
    plan = np.array([8, 8])  # 16 bits, rank 16
    sizes = [entry.bytes for entry in options.groups]
    costs = {
        (group, to): (importance[group, axis] + EPSILON) / (sizes[group][8] - sizes[group][to])
        for group in (0, 1)
        for axis, to in ((0, 5), (1, 7))
    }
    group, to = min(costs, key=lambda step: costs[step])
    expected = plan.copy()
    expected[group] = to
    full = int(options.model_bytes(plan))
    assert ladder.repaired(plan, full).tolist() == plan.tolist()
    assert ladder.repaired(plan, full - 1).tolist() == expected.tolist()
    smallest = int(options.model_bytes(np.array([0, 0])))
    assert ladder.repaired(plan, smallest).tolist() == [0, 0]
    assert ladder.repaired(plan, 0).tolist() == [0, 0]  # no plan fits
