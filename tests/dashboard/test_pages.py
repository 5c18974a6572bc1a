"""Pages and the report, from a study whose texts are tags."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from dash.exceptions import PreventUpdate
from optuna.storages import RDBStorage
from plotly.utils import PlotlyJSONEncoder

from jointsearch.dashboard.app import create_app
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.bounds import Bounds, best_within
from jointsearch.dashboard.pages.by_address import page_of
from jointsearch.dashboard.pages.front import Controls, shown_front
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.stored import StoredStudy


def components(page: list[Any]) -> str:
    return json.dumps(page, cls=PlotlyJSONEncoder)


def test_pages(small: StoredStudy, storage: RDBStorage) -> None:
    assert "some/model" in components(page_of(LiveStudies(storage), "/"))
    assert "trial 3" in components(page_of(LiveStudies(storage), "/study/small"))
    plan = components(page_of(LiveStudies(storage), "/study/small/plan/3"))
    assert "1.0000 loss better at +" in plan and "than uniform 4-bit rank 0" in plan
    assert "8 of 9 modules differ" in components(page_of(LiveStudies(storage), "/study/small/compare/2/3"))
    assert "the loss is not finite" in components(page_of(LiveStudies(storage), "/study/small/progress"))


@pytest.mark.parametrize(
    "path", ["/study/smal", "/study/small/plan/x", "/study/small/plan/1", "/x", "/study"]
)
def test_what_is_not_there(small: StoredStudy, storage: RDBStorage, path: str) -> None:
    assert "Not found" in components(page_of(LiveStudies(storage), path))


def test_bounds_mark_the_best_points(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    middle = table.point(3).model_bytes
    assert best_within(table, Bounds(middle, 3.1))[0] == [3, 0]
    assert best_within(table, Bounds(middle - 1, 2.05))[0] == [0, 2]


def test_texts_of_a_study_stay_texts(hostile: StoredStudy, storage: RDBStorage) -> None:
    """No component renders HTML or Markdown, and the name is quoted in addresses."""
    paths = [study_path(hostile.name, *rest) for rest in ((), ("plan", 0), ("compare", 0, 0), ("progress",))]
    assert paths[0] == "/study/%3Cscript%3Ealert%281%29%3C%2Fscript%3E"
    for path in ("/", *paths):
        page = components(page_of(LiveStudies(storage), path))
        assert "Not found" not in page
        assert not re.search(r'"type": "(Markdown|Iframe|Script)"|dangerously', page)
    assert "<script>alert" not in create_app(storage).index()


def test_loosest_bounds_leave_the_whole_front(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    loosest = Bounds.loosest(table)
    sizes = [table.point(trial).model_bytes for trial in (0, 3, 2)]
    assert (loosest.max_bytes, loosest.quality) == (max(sizes), pytest.approx(3.1))
    slider = loosest.size_slider(table)
    assert (slider["min"], slider["max"], slider["value"]) == (min(sizes), max(sizes), max(sizes))


def test_the_clock_brings_what_an_answer_that_was_dropped_should_have(small: StoredStudy) -> None:
    loosest = Bounds.loosest(front_table(small, small.records()))
    shown = Controls(
        budget=loosest.max_bytes,
        most_bytes=loosest.max_bytes,
        bound=loosest.quality,
        least=0.0,
        most=loosest.quality,
        scale="linear",
        layers=[],
        seen={},
    )
    shown = replace(shown, seen=shown.shown(version_of(small, small.records())))
    with pytest.raises(PreventUpdate):
        shown_front(small, shown, "front-clock")
    changed = shown_front(small, replace(shown, scale="log"), "front-clock")
    operations = changed["figure"].to_plotly_json()["operations"]
    assert [
        operation["params"]["value"]
        for operation in operations
        if operation["location"] == ["layout", "xaxis", "type"]
    ] == ["log"]
    with pytest.raises(PreventUpdate):
        shown_front(small, replace(shown, scale="log", seen=changed["seen"]), "front-clock")
