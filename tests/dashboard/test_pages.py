"""Pages and the report, from a study whose texts are tags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from dash.exceptions import PreventUpdate
from optuna.storages import RDBStorage
from plotly.offline import get_plotlyjs_version
from plotly.utils import PlotlyJSONEncoder
from werkzeug.test import Client

from jointsearch.dashboard.app import ASSETS, create_app
from jointsearch.dashboard.figures.front_view import Bound
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.by_address import ON_PAGE, page_of
from jointsearch.dashboard.pages.choice import best_within, loosest, slider_of
from jointsearch.dashboard.pages.front import asked
from jointsearch.dashboard.pages.front_refresh import Controls, after, shown, shown_front
from jointsearch.export.serving import SERVING_TARGETS, carriers
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.plans import export_plan
from jointsearch.study.stored import StoredStudy


def components(page: list[Any]) -> str:
    return json.dumps(page, cls=PlotlyJSONEncoder)


def test_pages(small: StoredStudy, storage: RDBStorage) -> None:
    assert "some/model" in components(page_of(LiveStudies(storage), "/"))
    assert '"plan 3"' in components(page_of(LiveStudies(storage), "/study/small"))
    plan = components(page_of(LiveStudies(storage), "/study/small/plan/3"))
    assert "Plan 3" in plan and "jointsearch select small --trial 3" in plan and '"4-bit r0"' in plan
    assert "\\u22121.0000" in plan  # 2.1 against 3.1, the best of no more bytes
    assert "8 of 9 modules differ" in components(page_of(LiveStudies(storage), "/study/small/compare/2/3"))
    assert "the loss is not finite" in components(page_of(LiveStudies(storage), "/study/small/progress"))


def test_a_plan_says_what_can_serve_it(small: StoredStudy, storage: RDBStorage) -> None:
    asked = []

    def asks(plan: PlanFile) -> list[Any]:
        asked.append(plan.origin.trial if plan.origin else None)
        can = SimpleNamespace(name="one", description="all in one", formats=("nf4",))
        cannot = SimpleNamespace(name="other", description="", formats=None)
        return [
            SimpleNamespace(target=can, problem=""),
            SimpleNamespace(target=cannot, problem="it has no rank"),
        ]

    path = "/study/small/plan/3"
    page = components(page_of(LiveStudies(storage, asks), path))
    assert asked == [3]
    assert "jointsearch export-model runs/small-trial-3 --to one -o served" in page
    assert "4-bit, 16-bit" in page and "it has no rank" in page and "--to other" not in page
    assert "What can serve it" not in components(page_of(LiveStudies(storage), path))


def test_every_target_is_asked(small: StoredStudy) -> None:
    without, with_ranks = (
        {found.target.name: found.problem for found in carriers(export_plan(small, trial))}
        for trial in (0, 2)
    )
    assert set(without) == set(with_ranks) == set(SERVING_TARGETS)
    assert "an adapter needs a rank above 0" in without["adapter"]
    assert with_ranks["adapter"] == with_ranks["merged"] == ""


def test_the_first_view_loads_no_table_and_a_small_plotly(storage: RDBStorage) -> None:
    index = Client(create_app(storage).server).get("/").text
    scripts = re.findall(r'<script src="([^"]*)"', index)
    assert not any("ag_grid" in script for script in scripts)
    assert re.search(r'<meta name="grid-script" content="/[^"]*dash_ag_grid[^"]*">', index)
    (plotly,) = [script for script in scripts if "plotly" in script]
    assert plotly.startswith("/assets/plotly-basic.min.js")
    # the figures are Plotly's for Python, which knows this version of its library for browsers
    head = (ASSETS / "plotly-basic.min.js").read_text(encoding="utf-8")[:100]
    assert f"plotly.js (basic - minified) v{get_plotlyjs_version()}\n" in head


@pytest.mark.parametrize(
    "path", ["/study/smal", "/study/small/plan/x", "/study/small/plan/1", "/x", "/study"]
)
def test_what_is_not_there(small: StoredStudy, storage: RDBStorage, path: str) -> None:
    assert "Not found" in components(page_of(LiveStudies(storage), path))


def test_bounds_find_the_best_points(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    middle = table.point(3).model_bytes
    bounds = Bound("size", middle), Bound("size", middle - 1), Bound("quality", 3.1), Bound("quality", 2.05)
    assert [best_within(table, bound).trial for bound in bounds] == [3, 0, 0, 2]


def test_an_address_names_a_bound(small: StoredStudy) -> None:
    table = front_table(small, small.records())
    middle = table.point(3).model_bytes
    assert asked(table, f"?by=size&bound={middle}") == Bound("size", middle)
    assert asked(table, "?by=quality&bound=2.5") == Bound("quality", 2.5)
    largest = table.point(2).model_bytes
    assert asked(table, "") == Bound("size", middle)  # the knee's
    for odd in ("?by=x&bound=y", "?by=size&bound=1e99", "?bound=nan", "?by=size&bound=inf"):
        assert asked(table, odd) == Bound("size", largest)
    assert asked(table, "?by=quality&bound=-5") == Bound("quality", 2.0)


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
    sizes = [table.point(trial).model_bytes for trial in (0, 3, 2)]
    assert loosest(table, "size") == Bound("size", max(sizes))
    assert loosest(table, "quality").value == pytest.approx(3.1)
    slider = slider_of(table, loosest(table, "size"))
    assert (slider["min"], slider["max"], slider["value"]) == (min(sizes), max(sizes), max(sizes))


def test_the_clock_brings_what_an_answer_that_was_dropped_should_have(
    small: StoredStudy, storage: RDBStorage
) -> None:
    studies = LiveStudies(storage)
    study = studies["small"]
    table = front_table(study, study.records())
    widest = loosest(table, "size")
    least = min(point.model_bytes for point in table.front)
    seen = shown(version_of(study, study.records()), widest, "5", (), 2)
    controls = Controls("size", widest.value, least, widest.value, "5", [], seen)

    def answer(asked: Controls) -> dict[str, Any]:
        return shown_front(studies, study, asked, "front-clock", ON_PAGE)

    with pytest.raises(PreventUpdate):
        answer(controls)
    changed = answer(replace(controls, layers=["log"]))
    operations = changed["figure"].to_plotly_json()["operations"]
    axes = [o["params"]["value"] for o in operations if o["location"] == ["layout", "xaxis"]]
    assert [axis.type for axis in axes] == ["log"]
    with pytest.raises(PreventUpdate):
        answer(replace(controls, layers=["log"], seen=changed["seen"]))
    moved = answer(replace(controls, bound=least))
    assert moved["seen"]["choice"] == 0
    parts = {tuple(o["location"]) for o in moved["figure"].to_plotly_json()["operations"]}
    assert parts == {("layout", "shapes"), ("layout", "annotations"), ("data", -1)}  # a slider moves often


def test_a_person_chooses_how_long_the_trials_have_trained(
    small: StoredStudy, storage: RDBStorage, add: Callable[..., Plan]
) -> None:
    add(small, 4, 0, {0: 2.5}, steps=20)
    add(small, 16, 4, {0: 1.5}, steps=20)
    add(small, 4, 4, {0: 1.25}, changes={"embed": (16, 0)}, steps=20)
    studies = LiveStudies(storage)
    study = studies["small"]
    for query, length in (("", "20"), ("?steps=5&by=size&bound=1", "5"), ("?steps=7", "20")):
        page = components(page_of(studies, study_path("small"), query=query))
        control = re.search(r'\{[^{}]*"id": "steps"[^{}]*\}', page)
        assert control is not None
        props = json.loads(control[0])
        # the longest is what to believe
        assert (props["data"], props["value"]) == (["5", "20"], length)
        assert ('"symbol": "square"' in page) == (length == "20")

    def found(steps: str, seen: str) -> dict[str, Any]:
        widest = loosest(front_table(study, after(study, study.records(), seen)), "size")
        told = shown(version_of(study, study.records()), widest, seen, (), None)
        controls = Controls("size", widest.value, 0, widest.value, steps, [], told)
        return shown_front(studies, study, controls, "steps", ON_PAGE)

    for steps, seen, losses in (("20", "5", [2.5, 1.25]), ("5", "20", [3.1, 2.1, 2.0])):
        changed = found(steps, seen)
        operations = changed["figure"].to_plotly_json()["operations"]
        (data,) = [o["params"]["value"] for o in operations if o["location"] == ["data"]]
        assert next(list(trace.y) for trace in data if trace.name == "front") == losses
        assert ["layout", "yaxis"] in [o["location"] for o in operations]
        assert changed["seen"]["steps"] == steps
    with pytest.raises(PreventUpdate):
        found("20", "20")


def test_a_person_who_has_zoomed_stays_there(small: StoredStudy, storage: RDBStorage) -> None:
    studies = LiveStudies(storage)
    study = studies["small"]
    widest = loosest(front_table(study, study.records()), "size")
    controls = Controls("size", widest.value, 0, widest.value, "5", [], shown("old", widest, "5", (), 2))
    for zoom, moves in ((None, True), ({"xaxis.range[0]": 1}, False), ({"autosize": True}, True)):
        found = shown_front(studies, study, replace(controls, zoom=zoom), "front-clock", ON_PAGE)
        places = [o["location"] for o in found["figure"].to_plotly_json()["operations"]]
        assert (["layout", "xaxis"] in places) == moves
