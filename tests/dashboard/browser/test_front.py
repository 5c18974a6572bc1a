"""The front's page in a real browser: the figure, the bound, and what it shows while a study runs."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from fixtures.chromium import FRONT_POINTS, IN_CHROMIUM, POSITION, RANGES, click_point, open_front, plotted
from jointsearch.front.pareto import is_on_front
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.full_runs import selected
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

pytestmark = IN_CHROMIUM

RINGED = """trial => document.querySelector("#front .js-plotly-plot").data
    .find(t => t.name === "best within the bound")?.customdata.includes(trial)"""
DRAWN = """expected => JSON.stringify(Array.from(document.querySelector("#front .js-plotly-plot").data
    .find(t => t.name === "front").customdata).sort((a, b) => a - b)) === JSON.stringify(expected)"""
"""Whether these trials, rising, are the front that is drawn."""
IS_LOG = """() => document.querySelector("#front .js-plotly-plot")._fullLayout.xaxis.type === "log" """


def front_of(study: StoredStudy) -> list[int]:
    """By brute force over the trials."""
    trials = study.records().complete
    points = [tuple(trial.values.values()) for trial in trials]
    keep = [
        not any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        for point in points
    ]
    assert keep == list(is_on_front(points))
    found = {
        trial.digest: trial.number for trial, kept in reversed(list(zip(trials, keep, strict=True))) if kept
    }
    return sorted(found.values())


def test_the_front_a_click_and_the_plan(page: Page, study: StoredStudy) -> None:
    page.goto("/")
    page.get_by_role("link", name="small").click()
    page.wait_for_selector(FRONT_POINTS)
    assert sorted(trial for trial, _, _ in plotted(page, "front")) == front_of(study)
    expect(page.locator("#points tbody tr")).to_have_count(len(front_of(study)))

    # a click where Plotly says that the second point of the front is
    point = plotted(page, "front")[1]
    click_point(page, point)
    drawer = page.get_by_role("dialog")
    plan = study.records().trials[int(point[0])]
    name = plan.origin.name.replace("uniform ", "").replace(" rank ", " r") or f"Plan {int(point[0])}"
    expect(drawer).to_contain_text(name)
    expect(drawer).to_contain_text(f"jointsearch select small --trial {int(point[0])}")
    expect(drawer).to_have_accessible_name(re.compile(re.escape(name)))
    drawer.get_by_role("button", name="Select for the full run").click()
    expect(drawer).to_contain_text("jointsearch worker small --full-runs")
    assert selected(study.optuna_study) == int(point[0])
    with page.expect_download() as download:
        drawer.get_by_role("button", name="Download plan.json").click()
    assert json.loads(Path(download.value.path()).read_text())["origin"]["trial"] == int(point[0])
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    click_point(page, point)
    drawer.get_by_role("link", name="Open the full page").click()
    page.wait_for_selector("#against table")
    assert page.url.endswith(f"/study/small/plan/{int(point[0])}")


def test_a_logarithmic_scale(page: Page) -> None:
    open_front(page)
    page.get_by_text("log size").click()
    page.wait_for_function(IS_LOG)
    assert page.evaluate(RANGES)[1] < 3  # of kilobytes, as powers of ten


def test_the_slider_marks_the_best_point(page: Page, study: StoredStudy) -> None:
    open_front(page)
    handle = page.get_by_role("slider")
    handle.focus()
    handle.press("Home")
    smallest = min(study.records().front, key=lambda point: point.values["model_bytes"])
    page.wait_for_function(RINGED, arg=smallest.number)
    expect(page.locator("#best .big")).to_have_text("4-bit r0")
    handle.press("End")
    best = min(study.records().front, key=lambda point: point.values["loss"])
    page.wait_for_function(RINGED, arg=best.number)
    page.get_by_text("Loss", exact=True).first.click()
    expect(page.locator("#best .big")).to_have_text("4-bit r0")  # the smallest of those that are good enough


def test_a_number_is_a_bound_that_an_address_keeps(page: Page, study: StoredStudy) -> None:
    front = sorted(study.records().front, key=lambda point: point.values["model_bytes"])
    wanted = front[2]
    open_front(page)
    number = page.get_by_label("Bound of size or quality")
    number.fill(f"{wanted.values['model_bytes'] / 1000 + 0.001:.3f}")
    page.wait_for_function(RINGED, arg=wanted.number)
    page.wait_for_url(re.compile(r"\?by=size&bound=\d+"))
    page.reload()
    page.wait_for_selector(FRONT_POINTS)
    page.wait_for_function(RINGED, arg=wanted.number)


def test_an_axis_of_memory_that_an_address_keeps(page: Page, study: StoredStudy) -> None:
    taken = {t.number: t.measurement.training_memory for t in study.records().complete}
    losses = {t.number: t.values["loss"] for t in study.records().complete}
    front = {
        trial
        for trial in taken
        if not any(
            (taken[other], losses[other]) != (taken[trial], losses[trial])
            and taken[other] <= taken[trial]
            and losses[other] <= losses[trial]
            for other in taken
        )
    }
    open_front(page)
    page.get_by_text("to train", exact=True).click()
    page.wait_for_function(DRAWN, arg=sorted(front))
    shown = {int(trial): size for trial, size, _ in plotted(page, "front")}
    assert shown == {trial: pytest.approx(taken[trial] / 1000) for trial in front}
    best = min(front, key=lambda trial: losses[trial])
    page.wait_for_function(RINGED, arg=best)  # a new axis has no bound
    page.wait_for_url(re.compile(rf"\?by=size&bound={taken[best]}&.*axis=training_memory"))
    handle = page.get_by_role("slider")
    handle.focus()
    handle.press("Home")
    leanest = min(front, key=lambda trial: taken[trial])
    page.wait_for_function(RINGED, arg=leanest)
    page.wait_for_url(re.compile(rf"bound={taken[leanest]}&"))
    page.reload()
    page.wait_for_selector(FRONT_POINTS)
    page.wait_for_function(RINGED, arg=leanest)
    page.wait_for_function(DRAWN, arg=sorted(front))


def test_it_follows_a_running_study_and_keeps_the_zoom(
    page: Page, study: StoredStudy, layout: ModelLayout
) -> None:
    open_front(page)
    handle = page.get_by_role("slider")
    handle.focus()
    handle.press("End")
    (_, x1, y1), (_, x2, y2) = plotted(page, "front")[1], plotted(page, "front")[-1]
    start, end = page.evaluate(POSITION, [x1, y1]), page.evaluate(POSITION, [x2, y2])
    page.mouse.move(start[0] + 12, start[1] - 12)
    page.mouse.down()
    page.mouse.move(*end, steps=5)
    page.mouse.up()
    page.wait_for_function(f"([low]) => ({RANGES})()[0] > low + 0.5", arg=[plotted(page, "front")[0][1]])
    zoomed = page.evaluate(RANGES)
    before = len(study.records().complete)
    worker = threading.Thread(target=Worker(study, FakeRunner(layout)).run)
    worker.start()
    worker.join()
    assert len(study.records().complete) > before
    expected = front_of(study)
    page.wait_for_function(DRAWN, arg=expected)
    assert page.evaluate(RANGES) == zoomed
    # the slider stands at its end, which has moved
    best = min(study.records().complete, key=lambda trial: trial.values["loss"])
    page.wait_for_function(RINGED, arg=best.number)
    largest = max(study.records().front, key=lambda point: point.values["model_bytes"])
    expect(page.get_by_role("slider")).to_have_attribute(
        "aria-valuemax", str(largest.measurement.model_bytes)
    )
    expect(page.locator("#points tbody tr")).to_have_count(len(expected))


def test_it_waits_for_the_first_trial(
    page: Page, create: Callable[..., StoredStudy], layout: ModelLayout
) -> None:
    waiting = create(name="waiting")
    page.goto("/study/waiting")
    expect(page.get_by_text("No trial is complete yet")).to_be_visible()
    Worker(waiting, FakeRunner(layout), max_trials=2).run()
    page.wait_for_selector(FRONT_POINTS)


def test_the_predicted_front_and_its_measurement(page: Page, study: StoredStudy) -> None:
    open_front(page)
    page.get_by_text("predicted, 90 %").click()
    page.wait_for_function(
        """() => document.querySelector("#front .js-plotly-plot").data.some(t => t.name === "predicted")"""
    )
    page.get_by_role("button", name="Measure the predicted best").click()
    expect(page.locator("#measured")).to_contain_text("waits for a worker")
    (requested,) = study.records().requested
    assert not requested.origin.name


def test_a_click_is_not_lost_where_the_clock_asks_before_its_answer(page: Page) -> None:
    """Dash leaves the answer to a click alone once the same callback has been asked again."""
    open_front(page)
    held: list[Route] = []

    def hold(route: Route) -> None:
        changed = (route.request.post_data_json or {}).get("changedPropIds", [])
        if changed == ["layers.value"]:
            held.append(route)
            return
        route.continue_()
        if changed == ["front-clock.n_intervals"] and held:
            held.pop().continue_()

    page.route(re.compile("/_dash-update-component"), hold)
    page.get_by_text("log size").click()
    page.wait_for_function(IS_LOG)
    assert page.evaluate(RANGES)[1] < 3  # of kilobytes, as powers of ten
    assert held == []
