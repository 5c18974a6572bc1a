"""The quality against bytes of the model, or against memory: fronts, limits, and what the page changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dash import html
from optuna.storages import RDBStorage
from plotly.utils import PlotlyJSONEncoder

import jointsearch as js
from fixtures.memory import profile_of
from jointsearch.config.study import StudyConfig
from jointsearch.dashboard.data.against import ladder_of, rival_of
from jointsearch.dashboard.data.plan import plan_table
from jointsearch.dashboard.data.trials import trials_table
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.front_view import LIMIT, Bound
from jointsearch.dashboard.figures.plan import memory_figure
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.by_address import ON_PAGE, page_of
from jointsearch.dashboard.pages.choice import best_within, loosest
from jointsearch.dashboard.pages.front_refresh import PREDICTED, Controls, shown, shown_front
from jointsearch.dashboard.pages.trials import MEMORY, columns, known_columns
from jointsearch.dashboard.report import sections
from jointsearch.errors import StudyError
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.study.analysis.front_table import axes_of, front_table
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

TAKEN = {0: 900_000, 1: 400_000, 2: 700_000, 3: 500_000}
LOSSES = {0: 3.0, 1: 2.5, 2: 2.0, 3: 2.75}


@pytest.fixture
def weighed(create: Callable[..., StoredStudy], add: Callable[..., Plan]) -> StoredStudy:
    """Trials 0 and 2 are uniform ones of 4 and 16 bits; 4 has no foretold memory."""
    study = create(search_space={"enqueue": [], "max_training_memory": "720kB", "max_model_bytes": "1GB"})
    add(study, 4, 4, {0: LOSSES[0]}, label="uniform 4-bit rank 4", memory=TAKEN[0])
    add(study, 4, 4, {0: LOSSES[1]}, changes={"embed": (16, 0)}, memory=TAKEN[1])
    add(study, 16, 4, {0: LOSSES[2]}, label="uniform 16-bit rank 4", memory=TAKEN[2])
    add(study, 16, 0, {0: LOSSES[3]}, memory=TAKEN[3])
    add(study, 8, 4, {0: 1.0})
    return study


def test_a_front_against_memory(weighed: StoredStudy) -> None:
    records = weighed.records()
    assert axes_of(weighed, records) == ("model_bytes", "training_memory", "serving_memory")
    table = front_table(weighed, records, "training_memory")
    undominated = [
        trial
        for trial, size in TAKEN.items()
        if not any(
            TAKEN[other] <= size and LOSSES[other] <= LOSSES[trial] for other in TAKEN if other != trial
        )
    ]
    assert sorted(point.trial for point in table.front) == undominated == [1, 2]
    assert {point.trial for point in table.points} == set(TAKEN)  # 4: nobody knows what it takes
    assert [(choice.trial, choice.model_bytes) for choice in table.choices] == [(1, 400_000), (2, 700_000)]
    assert best_within(table, Bound("size", 650_000)).trial == 1
    assert loosest(table, "size") == Bound("size", 700_000)
    # by bytes of the model it is the study's own front
    own = [point.trial for point in front_table(weighed, records).front]
    assert [point.trial for point in front_table(weighed, records, "model_bytes").front] == own


def test_rivals_are_those_of_no_more_memory(weighed: StoredStudy) -> None:
    memory = front_table(weighed, weighed.records(), "training_memory")
    size = front_table(weighed, weighed.records(), "model_bytes")
    assert [point.trial for point in ladder_of(memory)] == [2]  # the other takes more and is worse
    assert [point.trial for point in ladder_of(size)] == [0, 2]
    assert rival_of(memory, memory.point(3)) is None
    found = rival_of(size, size.point(3))
    assert found is not None and found.trial == 0


def test_studies_of_several_costs_have_one_line_per_axis(
    create: Callable[..., StoredStudy], add: Callable[..., Plan]
) -> None:
    study = create(objectives=["loss", "training_memory"], search_space={"enqueue": []})
    assert axes_of(study, study.records()) == ("training_memory", "model_bytes")
    with pytest.raises(StudyError, match="complete"):
        js.plot_front(study)


def test_the_limit_of_the_search_is_drawn_where_it_is_near(weighed: StoredStudy) -> None:
    records = weighed.records()
    near, far = (front_table(weighed, records, axis) for axis in ("training_memory", "model_bytes"))
    assert (near.limit, far.limit) == (720_000, 10**9)
    figure = front_figure(near, bound=Bound("size", 650_000))
    lines = [shape.x0 for shape in figure.layout.shapes if shape.type == "line"]
    assert lines == [720.0, 650.0]
    assert [note.text for note in figure.layout.annotations if note.text == LIMIT] == [LIMIT]
    low, high = figure.layout.xaxis.range
    assert low < 400 and high > 720
    assert [trace.x[0] for trace in figure.data if trace.name == "the best without a search"] == [700.0]
    other = front_figure(far)
    assert other.layout.shapes == () and LIMIT not in [note.text for note in other.layout.annotations]
    assert front_table(weighed, records, "serving_memory").limit is None


def test_an_address_names_an_axis(weighed: StoredStudy, storage: RDBStorage) -> None:
    studies = LiveStudies(storage)
    found = {}
    for query in ("", "?axis=training_memory&by=size&bound=650000", "?axis=nothing"):
        components = html.Div(page_of(studies, study_path("small"), query=query))
        by_id = {getattr(part, "id", ""): part for part in components._traverse()}
        found[query] = by_id["axis"].value, by_id["bound"].value
        page = json.dumps(components, cls=PlotlyJSONEncoder)
        assert ("beyond 720 kB of memory to train" in page) == ("training_memory" in query)
    knee = next(p for p in front_table(weighed, weighed.records()).front if p.knee).model_bytes
    assert list(found.values()) == [
        ("model_bytes", knee),
        ("training_memory", 650_000),
        ("model_bytes", knee),
    ]


def test_a_person_chooses_an_axis(weighed: StoredStudy, storage: RDBStorage) -> None:
    studies = LiveStudies(storage)
    study = studies["small"]
    widest = loosest(front_table(study, study.records()), "size")
    seen = shown(version_of(study, study.records()), widest, "5", (), None)
    controls = Controls("size", widest.value, 0, widest.value, "5", [], seen, axis="training_memory")

    def changed(controls: Controls) -> dict[str, Any]:
        return shown_front(studies, study, controls, "axis", ON_PAGE)

    found = changed(controls)
    operations = found["figure"].to_plotly_json()["operations"]
    (data,) = [o["params"]["value"] for o in operations if o["location"] == ["data"]]
    assert next(list(trace.x) for trace in data if trace.name == "front") == [400, 700]
    assert ["layout", "xaxis"] in [o["location"] for o in operations]
    assert (found["slider"]["min"], found["slider"]["max"], found["slider"]["value"]) == (
        400_000,
        700_000,
        700_000,
    )
    assert [bound["label"] for bound in found["bounds"]] == ["To train", "Loss"]
    assert (found["seen"]["axis"], found["seen"]["choice"], found["suffix"]) == ("training_memory", 2, " kB")
    foretold = changed(replace(controls, layers=[PREDICTED]))
    assert "see it against size" in json.dumps(foretold["best"], cls=PlotlyJSONEncoder)


def test_plots_take_an_axis(weighed: StoredStudy) -> None:
    drawn = js.plot_front(weighed, axis="serving_memory")
    assert next(list(trace.x) for trace in drawn.data if trace.name == "front") == [200, 350]
    with pytest.raises(StudyError, match="axis must be one of model_bytes, training_memory, serving_memory"):
        js.plot_front(weighed, axis="loss")
    with pytest.raises(StudyError, match="one of model_bytes, but the axis is training_memory"):
        js.plot_front(weighed, axis="training_memory", predicted=True)


@pytest.fixture
def foretold(configure: Callable[..., StudyConfig], storage: RDBStorage, layout: ModelLayout) -> StoredStudy:
    """Its trials' memory is foretold as a worker does it."""
    study = create_study(storage, configure(search={"trials": 20}), layout, profile_of(layout))
    Worker(study, FakeRunner(layout)).run()
    return study


def test_where_training_memory_goes(foretold: StoredStudy, storage: RDBStorage) -> None:
    trial = next(t for t in foretold.records().complete if t.origin.name == "uniform 16-bit rank 4")
    table = plan_table(foretold, foretold.records(), trial.number)
    memory = table.training
    assert memory is not None
    assert sum(memory.parts.values()) == memory.taken.total_bytes == trial.measurement.training_memory
    ranks = [spec for spec in foretold.layout.modules if spec.adaptable]
    parameters = sum(4 * sum(spec.shape) for spec in ranks)
    assert memory.parts["adapter"] == 4 * parameters  # 32 bits each
    # two moments, and a count of steps for each of the two matrices of a module
    assert memory.parts["optimizer"] == 8 * parameters + 2 * 4 * len(ranks)
    assert memory.conditions.startswith("1 × 100 tokens on cpu; the most in ")
    (bars,) = memory_figure(memory).data
    assert dict(zip(bars.y, bars.x, strict=True)) == {
        name: pytest.approx(num / 1000) for name, num in memory.parts.items()
    }
    page = json.dumps(
        page_of(LiveStudies(storage), study_path("small", "plan", trial.number)), cls=PlotlyJSONEncoder
    )
    assert (
        "Where training memory goes" in page
        and f"gradients {format_bytes(memory.parts['gradients'])}" in page
    )
    assert "to serve an example of the task's length, foretold" in page


def test_all_trials_have_what_memory_they_take(foretold: StoredStudy) -> None:
    table = trials_table(foretold, foretold.records())
    row, trial = table.rows[3], foretold.records().trials[3]
    assert row["training_memory"] == pytest.approx(trial.measurement.training_memory / 1e6, abs=1e-4)
    assert row["serving_memory"] == pytest.approx(trial.measurement.serving_memory / 1e6, abs=1e-4)
    given = columns(table, ("loss", "model_bytes"), known_columns(table), with_rates=False)
    names = [column["field"] for column in given]
    assert [name for name in names if name in MEMORY] == list(MEMORY)


def test_a_report_has_every_front_and_where_memory_goes(foretold: StoredStudy) -> None:
    front, plan, _ = sections(foretold)
    assert list(front.figures) == ["front", "front-training_memory", "front-serving_memory"]
    assert "memory" in plan.figures
