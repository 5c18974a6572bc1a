"""Tables of a hand-made study, with every number counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from jointsearch.dashboard.data.pair import pair_table
from jointsearch.dashboard.data.plan import OUTSIDE, plan_table
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.data.studies import study_row
from jointsearch.errors import StudyError
from jointsearch.plan.plan import Plan
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.full_runs import select_trial
from jointsearch.study.stored import StoredStudy

Create = Callable[..., StoredStudy]
Add = Callable[..., Plan]

START = datetime(2026, 1, 1, 12)
"""When the first trial of ``small`` began."""

# The layout has 47360 weights in modules and 640 + 256 bytes of norms and biases.
UNIFORM_16 = 2 * 47360 + 640 + 256 + 4 * 4 * (4 * (64 + 64) + 4 * (64 + 96))
"""16 bits and rank 4: float32 adapters of rank 4 on four 64 × 64 and four 96 × 64 modules."""


def test_a_study_on_one_line(small: StoredStudy) -> None:
    row = study_row(small, small.records())
    assert (row.name, row.model, row.task) == ("small", "some/model", "causal-lm")
    assert row.objectives == ("loss", "model_bytes")
    assert (row.complete, row.pruned, row.running, row.waiting, row.failed) == (5, 0, 0, 0, 1)
    assert row.total == 10
    assert row.trials_per_hour == pytest.approx(3600 / 30)
    assert row.last_activity == START + timedelta(minutes=5, seconds=30)


def test_a_study_without_trials(create: Callable[..., StoredStudy]) -> None:
    study = create()
    records = study.records()
    row = study_row(study, records)
    assert (row.waiting, row.complete, row.last_activity, row.trials_per_hour) == (4, 0, None, None)
    assert front_table(study, records).points == ()
    progress = progress_table(study, records)
    assert (progress.hypervolume, progress.timeline, progress.failures) == ((), (), ())


def test_points_of_all_measured_plans(small: StoredStudy) -> None:
    select_trial(small.optuna_study, 3)
    table = front_table(small, small.records())
    assert [point.trial for point in table.points] == [0, 2, 3, 4]
    twice, largest, searched, worst = table.points
    assert (twice.quality, twice.num_seeds) == (pytest.approx(3.1), 2)
    assert twice.standard_error == pytest.approx(0.1)  # (0.2 / √2) / √2
    assert (largest.standard_error, largest.num_seeds) == (None, 1)
    assert largest.model_bytes == UNIFORM_16
    assert largest.bits_per_weight == 16
    assert largest.trainable_share == pytest.approx(4608 / (47808 + 4608))
    assert largest.peak_memory_bytes == 1004
    assert [point.on_front for point in table.points] == [True, True, True, False]
    assert [point.baseline for point in table.points] == [True, True, False, False]
    assert [point.selected for point in table.points] == [False, False, True, False]
    # far below the line from (loss 3.1, few bytes) to (loss 2.0, many)
    assert [point.knee for point in table.points] == [False, False, True, False]
    assert [point.trial for point in table.front] == [0, 3, 2]
    assert [choice.trial for choice in table.choices] == [0, 3, 2]
    assert worst.label == "" and searched.label == ""


def test_a_selected_second_seed_marks_its_plan(small: StoredStudy) -> None:
    select_trial(small.optuna_study, 1)
    assert [p.trial for p in front_table(small, small.records()).points if p.selected] == [0]


def test_a_plan(small: StoredStudy) -> None:
    table = plan_table(small, small.records(), 3)
    assert table.blocks == (OUTSIDE, "layers.0", "layers.1")
    assert table.columns == ("attn.q", "attn.o", "mlp.up", "mlp.down", "embed")
    assert len(table.cells) == 9
    assert {(cell.block, cell.column): (cell.bits, cell.rank) for cell in table.cells}[
        "layers.1", "mlp.up"
    ] == (4, 4)
    assert (table.cells[0].block, table.cells[0].bits, table.cells[0].rank) == (OUTSIDE, 16, 0)
    assert sum(table.bytes_by_part.values()) == table.point.model_bytes
    assert table.bytes_by_part["embedding"] == 2 * 100 * 64
    assert table.bytes_by_part["other"] == 640
    assert [(p.step, p.loss) for p in table.train_losses] == [(1, 3.1)]
    assert [(p.step, p.loss) for p in table.validation_losses] == [(5, 2.1)]


def test_the_uniform_plan_of_nearest_size(small: StoredStudy) -> None:
    records = small.records()
    sizes = {point.trial: point.model_bytes for point in front_table(small, records).points}
    comparison = plan_table(small, records, 3).comparison
    assert comparison is not None
    assert sizes[3] - sizes[0] < sizes[2] - sizes[3]
    assert comparison.label == "uniform 4-bit rank 0"
    assert comparison.gain == pytest.approx(3.1 - 2.1)
    assert comparison.byte_share == pytest.approx(sizes[3] / sizes[0] - 1)
    own = plan_table(small, records, 2).comparison
    assert own is not None and own.label == "uniform 4-bit rank 0"  # not itself


def test_a_maximized_quality(create: Callable[..., StoredStudy], add: Callable[..., Plan]) -> None:
    study = create(objectives=["accuracy", "model_bytes"], search_space={"enqueue": []})
    add(study, 4, 0, {0: 0.5}, label="uniform 4-bit rank 0", metric="accuracy")
    add(study, 4, 4, {0: 0.75}, metric="accuracy")
    comparison = plan_table(study, study.records(), 1).comparison
    assert comparison is not None and comparison.gain == pytest.approx(0.25)


def test_no_uniform_plan_no_comparison(create: Callable[..., StoredStudy], add: Callable[..., Plan]) -> None:
    study = create(search_space={"enqueue": []})
    add(study, 4, 4, {0: 2.0})
    assert plan_table(study, study.records(), 0).comparison is None


@pytest.mark.parametrize("trial", [1, 5, 99])
def test_trials_that_are_no_point(small: StoredStudy, trial: int) -> None:
    """1 is a further seed of plan 0, 5 has failed."""
    with pytest.raises(StudyError, match=f"must have measured a plan of study 'small', but got {trial}"):
        plan_table(small, small.records(), trial)


def test_two_plans(small: StoredStudy) -> None:
    pair = pair_table(small, small.records(), 2, 3)
    assert pair.num_modules == 9
    assert [difference.module for difference in pair.differences] == [
        f"layers.{block}.{name}" for block in (0, 1) for name in ("attn.q", "attn.o", "mlp.up", "mlp.down")
    ]
    assert {(d.first.bits, d.first.rank, d.second.bits, d.second.rank) for d in pair.differences} == {
        (16, 4, 4, 4)
    }
    (example,) = pair.examples
    assert (example.input, example.reference) == ("2 + 2 =", "4")
    assert (example.first, example.second) == ("<b>5</b>", "<script>alert(1)</script>")
    assert pair_table(small, small.records(), 2, 2).differences == ()


def test_progress(small: StoredStudy) -> None:
    table = progress_table(small, small.records())
    assert table.failures == (("the loss is not finite", 1),)
    assert [(t.trial, t.worker, t.state) for t in table.timeline] == [
        (0, "here:1", "complete"),
        (1, "here:1", "complete"),
        (2, "here:1", "complete"),
        (3, "here:1", "complete"),
        (4, "there:2", "complete"),
        (5, "here:1", "failed"),
    ]
    assert {t.ended - t.started for t in table.timeline} == {timedelta(seconds=30)}
    # seeds 0, 1, 0, 0, 0 give training times 2, 3, 2, 2, 2
    assert table.seconds_by_phase == {"train": 2.0, "evaluate": 1.0}


def test_the_hypervolume_grows_to_the_one_of_now(create: Create, add: Add) -> None:
    study = create(search_space={"enqueue": []})
    add(study, 4, 4, {0: 3.0}, label="uniform 4-bit rank 4")
    add(study, 16, 4, {0: 2.0}, label="uniform 16-bit rank 4")
    add(study, 4, 4, {0: 2.1}, changes={"embed": (16, 0)})
    records = study.records()
    curve = progress_table(study, records).hypervolume
    small, large, middle = (point.model_bytes for point in front_table(study, records).points)
    corner = 3.1, large + 0.1 * (large - small)
    uniform = 0.1 * (corner[1] - small) + 1.0 * (corner[1] - large)
    more = uniform + 0.9 * (large - middle)
    assert [trial for trial, _ in curve] == [0, 1, 2]
    assert [ratio for _, ratio in curve] == pytest.approx(
        [0.1 * (corner[1] - small) / uniform, 1.0, more / uniform]
    )
    assert curve[-1][1] == pytest.approx(records.hypervolume)
