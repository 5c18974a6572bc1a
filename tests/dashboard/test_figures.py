"""Figures say what their tables say, and nothing of a study becomes a tag."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointsearch.dashboard.data.losses import loss_lines, run_lines
from jointsearch.dashboard.data.plan import plan_table
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.plan import loss_figure, parts_figure, plan_figure
from jointsearch.dashboard.figures.progress import hypervolume_figure, phases_figure, timeline_figure
from jointsearch.dashboard.figures.style import byte_unit
from jointsearch.measurement import LossPoint
from jointsearch.plan.formats import FORMATS, WeightFormat, register_format
from jointsearch.plan.plan import Plan
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.full_runs import claim, full_runs, select_trial, write
from jointsearch.study.stored import StoredStudy


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_the_front_is_a_line_beside_the_rest(small: StoredStudy) -> None:
    select_trial(small.optuna_study, 2)
    table = front_table(small, small.records())
    drawn = traces(front_figure(table, choice=0))
    assert drawn["front"].mode == "lines+markers"
    assert list(drawn["front"].customdata) == [0, 3, 2]
    assert list(drawn["front"].y) == pytest.approx([3.1, 2.1, 2.0])
    sizes = [table.point(trial).model_bytes / 1000 for trial in (0, 3, 2)]
    assert list(drawn["front"].x) == pytest.approx(sizes)
    assert [error and pytest.approx(error) for error in drawn["front"].error_y.array] == [0.1, None, None]
    assert list(drawn["dominated"].customdata) == [4]
    assert drawn["dominated"].marker.opacity < 0.6
    assert list(drawn["named plans"].customdata) == [0, 2]
    assert list(drawn["best within the bound"].customdata) == [0]


def test_a_hover_has_the_essentials(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    text = traces(front_figure(table))["named plans"].hovertext
    assert text[0].startswith("trial 0, uniform 4-bit rank 0<br>loss 3.1000 ± 0.1000 (2 seeds)<br>")
    assert text[1] == (
        "trial 2, uniform 16-bit rank 4<br>loss 2.0000<br>114 kB, 16.00 bits per weight<br>"
        "8.79% trainable, peak memory 1.004 kB"
    )


def test_bytes_can_be_logarithmic(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    assert front_figure(table, log_bytes=True).layout.xaxis.type == "log"
    assert front_figure(table).layout.xaxis.type is None


def test_new_data_keeps_the_zoom(small: StoredStudy, add: Callable[..., Plan]) -> None:
    before = front_figure(front_table(small, small.records()))
    add(small, 4, 4, {0: 1.0})
    after = front_figure(front_table(small, small.records()))
    assert len(after.data[1].x) != len(before.data[1].x) or list(after.data[1].y) != list(before.data[1].y)
    assert after.layout.uirevision == before.layout.uirevision == "small"


def test_a_plan_is_a_heat_map(small: StoredStudy) -> None:
    figure = plan_figure(plan_table(small, small.records(), 3))
    (heat,) = figure.data
    assert list(heat.x) == ["attn.q", "attn.o", "mlp.up", "mlp.down", "embed"]
    assert list(heat.y) == ["outside of blocks", "layers.0", "layers.1"]
    assert [list(row) for row in heat.z] == [[None] * 4 + [1], [0] * 4 + [None], [0] * 4 + [None]]
    assert [list(row) for row in heat.text] == [["", "", "", "", "0"], [*"4444", ""], [*"4444", ""]]
    assert list(heat.colorbar.ticktext) == ["4 bits", "16 bits"]
    assert figure.layout.yaxis.autorange == "reversed"


def test_a_format_of_another_package_has_its_name_and_a_colour(
    small: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = plan_table(small, small.records(), 3)
    monkeypatch.setattr(FORMATS, "_items", dict(FORMATS._items))
    register_format(WeightFormat("int3<b>", 3, 0.2, lambda shape, settings: 0))
    first, *others = table.cells
    changed = dataclasses.replace(table, cells=(dataclasses.replace(first, format="int3<b>"), *others))
    (heat,) = plan_figure(changed).data
    assert list(heat.colorbar.ticktext) == ["int3&lt;b&gt;", "4 bits"]
    assert len({colour for _, colour in heat.colorscale}) == 2


def test_bytes_and_losses_of_a_plan(small: StoredStudy) -> None:
    table = plan_table(small, small.records(), 3)
    (bars,) = parts_figure(table).data
    assert sum(bars.x) == pytest.approx(table.point.model_bytes / 1000)
    assert dict(zip(bars.y, bars.text, strict=True))["embedding"] == "12.8 kB"
    drawn = traces(loss_figure(loss_lines(small, table)))
    assert (list(drawn["trial 3"].x), list(drawn["trial 3"].y)) == ([5], [2.1])


def test_a_full_run_is_drawn_beside_its_trial_and_the_other_runs(small: StoredStudy) -> None:
    study = small.optuna_study
    losses = tuple(LossPoint(step=step, loss=4.0 / step) for step in (2, 4))
    for trial, points in ((2, losses), (3, losses[:1]), (0, ())):
        select_trial(study, trial)
        claimed = claim(study, full_runs(study.user_attrs)[trial], "here:1", Path("runs"))
        assert claimed is not None
        assert write(study, claimed.model_copy(update={"validation_losses": points}))

    drawn = traces(loss_figure(loss_lines(small, plan_table(small, small.records(), 2))))
    assert list(drawn) == ["full run", "trial 2"]
    assert (list(drawn["full run"].x), list(drawn["full run"].y)) == ([2, 4], [2.0, 1.0])

    runs = full_runs(study.user_attrs).values()
    drawn = traces(loss_figure(run_lines(small.records(), runs, 2)))
    # each after its trial, the chosen one above; one has no losses yet
    assert list(drawn) == ["plan 3, trial", "plan 3", "16-bit r4, trial", "16-bit r4"]
    assert (list(drawn["plan 3, trial"].x), list(drawn["plan 3, trial"].y)) == ([5], [2.1])
    assert drawn["plan 3, trial"].line.color == drawn["plan 3"].line.color
    assert drawn["plan 3"].line.color != drawn["16-bit r4"].line.color


def test_progress(small: StoredStudy) -> None:
    table = progress_table(small, small.records())
    (curve,) = hypervolume_figure(table).data
    assert list(curve.x) == [trial for trial, _ in table.hypervolume]
    assert list(curve.y) == [share for _, share in table.hypervolume]
    drawn = traces(timeline_figure(table))
    assert [list(pair) for pair in drawn["failed"].customdata] == [[5, 30.0]]
    assert list(drawn["complete"].y) == ["here:1"] * 4 + ["there:2"]
    (bars,) = phases_figure(table).data
    assert dict(zip(bars.y, bars.x, strict=True)) == {"train": 2.0, "evaluate": 1.0}


@pytest.mark.parametrize(
    ("values", "unit"),
    [([], ("B", 1)), ([999], ("B", 1)), ([3, 1000], ("kB", 1000)), ([2_500_000_000], ("GB", 10**9))],
)
def test_units_that_people_read(values: list[int], unit: tuple[str, int]) -> None:
    assert byte_unit(values) == unit


def test_no_text_of_a_study_is_a_tag(hostile: StoredStudy) -> None:
    records = hostile.records()
    figures = (
        front_figure(front_table(hostile, records)),
        plan_figure(plan_table(hostile, records, 0)),
        timeline_figure(progress_table(hostile, records)),
    )
    for figure in figures:
        text = figure.to_json().replace("\\u003c", "<")
        assert not any(tag in text for tag in ("<script>", "<a ", "<i>"))
    assert figures[0].layout.title.text == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert "&lt;a href=" in traces(figures[0])["named plans"].hovertext[0]
