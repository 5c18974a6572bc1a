"""Tables of grids, trials, verdicts and comparisons, with every number counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from jointsearch.dashboard.data.against import compared, default_rival
from jointsearch.dashboard.data.grid import Scale, grids_of
from jointsearch.dashboard.data.plan import OUTSIDE, Cell, plan_table
from jointsearch.dashboard.data.studies import study_row
from jointsearch.dashboard.data.trials import safe_name, trials_table
from jointsearch.dashboard.data.verdict import banner
from jointsearch.dashboard.data.why import DepthLine, WhyTable, by_depth, in_words, ranked
from jointsearch.dashboard.words import duration, plan_name, rate_of, signed
from jointsearch.plan.plan import Plan
from jointsearch.search.additive.predicted_front import Effect
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.analysis.verdict import PointVerdict, Verdict, judge
from jointsearch.study.control import Wanted, want
from jointsearch.study.stored import StoredStudy

Create = Callable[..., StoredStudy]
Add = Callable[..., Plan]


def test_modules_of_equal_choices_share_a_row(small: StoredStudy, add: Add) -> None:
    changes = {"layers.1.mlp.up": (16, 4)}
    add(small, 4, 4, {0: 2.05}, changes=changes)
    blocks, outside = grids_of(plan_table(small, small.records(), 6).cells)
    assert blocks.blocks == ("0", "1")
    assert [row.label for row in blocks.rows] == ["attention, down", "up"]
    shown = [[(cell.bits, cell.rank) for cell in row.cells if cell] for row in blocks.rows]
    assert shown == [[(4, 4), (4, 4)], [(4, 4), (16, 4)]]
    assert (outside.stack, [row.label for row in outside.rows]) == (OUTSIDE, ["embed"])


def test_stacks_have_grids_of_their_own() -> None:
    cells = [
        Cell(f"{stack}.block.{number}.q", "nf4", 4, f"{stack}.block.{number}", "q", "attention")
        for stack, count in (("encoder", 2), ("decoder", 3))
        for number in range(count)
    ]
    cells.append(Cell("decoder.block.2.cross", "int8", 0, "decoder.block.2", "cross", "cross-attention"))
    first, second = grids_of(cells)
    assert (first.stack, first.blocks) == ("encoder.block", ("0", "1"))
    assert (second.stack, second.blocks) == ("decoder.block", ("0", "1", "2"))
    assert [cell is None for cell in second.rows[1].cells] == [True, True, False]


def test_a_scale_has_what_a_study_can_have(small: StoredStudy) -> None:
    scale = Scale.of(small.space)
    assert scale == Scale(("nf4", "16bit"), (0, 4))
    assert (scale.format_share("nf4"), scale.format_share("16bit")) == (0, 1)
    wider = Scale(("nf4", "int8", "16bit"), (0, 2, 4, 8))
    assert wider.format_share("int8") == 0.5
    # an adaptive plan ends with ranks between
    assert [wider.rank_share(rank) for rank in (0, 3, 8, 9)] == pytest.approx([0, 1 / 3, 1, 1])


def test_all_trials(small: StoredStudy) -> None:
    table = trials_table(small, small.records())
    kinds = {row["trial"]: row["kind"] for row in table.rows}
    assert kinds == {0: "front", 1: "front", 2: "front", 3: "front", 4: "searched", 5: "failed"}
    assert [table.count(kind) for kind in ("front", "named", "searched", "failed")] == [4, 0, 1, 1]
    assert table.rows[0]["plan"] == "4-bit r0" and table.rows[3]["plan"] == "plan 3"
    assert (table.rows[2]["loss"], table.rows[2]["seconds"], table.rows[2]["seed"]) == (2.0, 30.0, 0)
    assert table.rows[5]["failure"] == "the loss is not finite" and "loss" not in table.rows[5]
    assert [axis.title for axis in table.axes] == [
        "size (MB)",
        "loss",
        "attention bits",
        "mlp bits",
        "attention rank",
        "mlp rank",
    ]
    assert (table.axes[1].low, table.axes[1].high) == (2.0, 3.5)
    assert sorted(table.lines) == [0, 1, 2, 3, 4]
    assert table.lines[0][1:] == pytest.approx((0.667, 0, 0, 0, 0))  # (3.0 - 2.0) / 1.5
    assert table.lines[2] == (1, 0, 1, 1, 1, 1)


def test_a_plan_against_the_best_of_no_more_bytes(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    rival = default_rival(table, table.point(3))
    assert rival is not None and rival.trial == 0
    rows = {row.name: (row.plan, row.rival, row.is_better) for row in compared(table, table.point(3), rival)}
    assert rows["loss"] == (2.1, pytest.approx(3.1), True)
    assert rows["model_bytes"][2] is False
    assert rows["peak_memory_bytes"] == (1004, 1000, False)
    smallest = default_rival(table, table.point(0))  # none is smaller
    assert smallest is not None and smallest.trial == 2


def verdict(**changes: object) -> Verdict:
    point = PointVerdict(3, (), (1, 2, 3), 0.5, (0.4, 0.5, 0.6), 0.01, True)
    return replace(Verdict((point,), (), True, "said so", 0.01, 0.5), **changes)  # type: ignore[arg-type]


def test_each_verdict_has_a_headline(small: StoredStudy, create: Create, add: Add) -> None:
    table = front_table(small, small.records())
    paid = banner(small, table, verdict())
    # Student's 97.5 % point of 2 degrees of freedom is 4.3027, the deviation 0.1
    assert (paid.kind, paid.headline, paid.trial) == ("paid", "The search paid", 3)
    assert "plan 3 has a loss 0.5000 ± 0.2484 lower" in paid.sentence
    assert "Without a search, 16-bit r4 has that loss at 114 kB" in paid.sentence
    enough = banner(small, table, verdict(paid=False))
    assert enough.kind == "enough" and "the largest gain is 0.5000 ± 0.2484" in enough.sentence
    first = PointVerdict(3, (), (), 0.5)
    undecided = banner(small, table, verdict(paid=None, comparisons=(first,)))
    assert (undecided.kind, undecided.command) == ("undecided", "jointsearch study refine small")
    assert "1 point looks better" in undecided.sentence and "0.5000" in undecided.sentence
    study = create(name="other", search_space={"enqueue": []})
    add(study, 4, 4, {0: 3.0}, label="uniform 4-bit rank 4")
    records = study.records()
    nothing = banner(study, front_table(study, records), judge(study, records))
    assert (nothing.kind, nothing.trial) == ("nothing", None)


def test_the_state_of_a_study(small: StoredStudy, create: Create) -> None:
    assert study_row(small, small.records()).state == "stopped"
    want(small.optuna_study, Wanted.PAUSE)
    assert study_row(small, small.records()).state == "paused"
    new = create(name="new")
    assert study_row(new, new.records()).state == "waiting"


def test_one_ranking_of_bits_and_ranks(small: StoredStudy) -> None:
    effects = (
        Effect("layers.0.mlp", "bits", 4, 16, 0.2, 0.1, 0.3, 4_000_000),
        Effect("layers.0.mlp", "rank", 0, 4, 0.3, 0.2, 0.4, 12_000_000),
        Effect("layers.1.mlp", "bits", 4, 16, 0.1, -0.1, 0.3, 1_000_000),
        Effect("embed", "bits", 4, 16, 0.0, -0.1, 0.1, 0),
    )
    table = WhyTable(front_table(small, small.records()).point(3), "loss", effects)
    assert [effect.gain for effect in ranked(table)] == [0.3, 0.2, 0.1, 0.0]
    assert [effect.gain for effect in ranked(table, per_megabyte=True)] == [0.1, 0.2, 0.3]
    assert by_depth(table, small.space) == (
        DepthLine("bits", "mlp", (0.2, 0.1)),
        DepthLine("rank", "mlp", (0.3,)),
    )
    assert in_words(table) == (
        "The rank of layers.0.mlp is worth most: 0.3000 loss from 0 to 4. "
        "2 of 4 effects are not told apart from 0."
    )


def test_words() -> None:
    assert [duration(s) for s in (9, 99, 1860, 9000, 3 * 86400)] == [
        "9 s",
        "99 s",
        "31 min",
        "2.5 h",
        "3 days",
    ]
    assert (plan_name(7, "uniform 4-bit rank 16"), plan_name(7)) == ("4-bit r16", "plan 7")
    assert (signed("-3 MB"), signed("3 MB")) == ("\u22123 MB", "+3 MB")
    assert (rate_of(23852.4), rate_of(2.34)) == ("23,852 per hour", "2.3 per hour")
    assert [safe_name(name) for name in ("a b/../c", "<x>", "...")] == ["a-b-..-c", "x", "study"]
