"""The dashboard in a real browser: Chromium, headless, driven by Playwright."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waitress
from click.testing import CliRunner
from optuna.storages import RDBStorage
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from jointsearch.cli import cli
from jointsearch.dashboard.serving import create_dashboard
from jointsearch.front.pareto import is_on_front
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.full_runs import full_runs, selected
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

CHROMIUM = (
    os.environ.get("JOINTSEARCH_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}

LONG_MS = 240_000
"""For what a page shows in the end, on a machine however busy."""
expect.set_options(timeout=LONG_MS)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="needs Chromium: apt-get install chromium, or its path in JOINTSEARCH_TEST_CHROMIUM",
    ),
    # the browser's process is a child of Playwright's, whose pipe Python closes a little later
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def study(create: Callable[..., StoredStudy], layout: ModelLayout) -> StoredStudy:
    """Half of its trials are done."""
    made = create(search={"trials": 40, "sampler": "random"}, search_space={"ranks": [0, 2, 4, 8]})
    Worker(made, FakeRunner(layout), max_trials=20).run()
    return made


@pytest.fixture
def address(study: StoredStudy, storage: RDBStorage) -> Iterator[str]:
    """Of the served dashboard."""
    server = waitress.create_server(create_dashboard(storage), host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    server.task_dispatcher.shutdown()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """It must make no error, and ask nobody but the dashboard."""
    context = browser.new_context(base_url=address, viewport={"width": 1200, "height": 900})
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    foreign: list[str] = []
    page.on(
        "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else foreign.append(r.url)
    )
    yield page
    context.close()
    assert (errors, foreign) == ([], [])


POSITION = """([x, y]) => {
    const plot = document.querySelector("#front .js-plotly-plot"), layout = plot._fullLayout
    const box = plot.getBoundingClientRect(), {xaxis, yaxis} = layout
    return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)]
}"""
"""Of a point of the front's figure, in pixels of the window."""
RANGES = """() => {
    const {xaxis, yaxis} = document.querySelector("#front .js-plotly-plot")._fullLayout
    return [...xaxis.range, ...yaxis.range]
}"""


def open_front(page: Page) -> None:
    page.goto("/study/small")
    page.wait_for_selector("#front .scatterlayer .point")


def plotted(page: Page, trace: str) -> list[list[float]]:
    """Trial, x and y of the points of a trace, as Plotly has them."""
    script = """name => {
        const trace = document.querySelector("#front .js-plotly-plot").data.find(t => t.name === name)
        const all = values => values.bdata ? Array.from(trace._inputArray || []) : Array.from(values)
        return trace ? Array.from(trace.customdata._inputArray || trace.customdata).map((c, i) => [c,
            (trace.x._inputArray || trace.x)[i], (trace.y._inputArray || trace.y)[i]]) : []
    }"""
    return page.evaluate(script, trace)  # type: ignore[no-any-return]


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
    page.wait_for_selector("#front .scatterlayer .point")
    assert sorted(trial for trial, _, _ in plotted(page, "front")) == front_of(study)
    link = page.locator("#points a").first
    expect(link).to_have_text(
        f"trial {min(study.records().front, key=lambda p: p.values['model_bytes']).number}"
    )

    # a click where Plotly says that the second point of the front is
    trial, x, y = plotted(page, "front")[1]
    where = page.evaluate(POSITION, [x, y])
    page.mouse.move(*where)
    page.mouse.click(*where)
    page.wait_for_selector("#plan .hm")
    assert page.url.endswith(f"/study/small/plan/{trial}")
    plan = study.records().trials[int(trial)].plan
    drawn = page.evaluate("""() => { const map = document.querySelector("#plan .js-plotly-plot").data[0]
        return map.y.flatMap((block, i) => map.x.map((column, j) => [block, column, map.text[i][j]])) }""")
    ranks = {f"{block}.{column}": int(rank) for block, column, rank in drawn if rank}
    assert {name: plan.modules[name].rank for name in ranks if name in plan.modules} == {
        name: rank for name, rank in ranks.items() if name in plan.modules
    }
    assert len([name for name in ranks if name in plan.modules]) >= 8


def test_a_logarithmic_scale(page: Page) -> None:
    open_front(page)
    page.get_by_text("log", exact=True).click()
    page.wait_for_function(
        """() => document.querySelector("#front .js-plotly-plot")._fullLayout.xaxis.type === "log" """
    )
    assert page.evaluate(RANGES)[1] < 3  # of kilobytes, as powers of ten
    expect(page.locator("#front .xtitle")).to_contain_text("model size")


def test_sliders_mark_the_best_point(page: Page, study: StoredStudy) -> None:
    open_front(page)
    handle = page.get_by_role("slider").first
    handle.focus()
    handle.press("Home")
    smallest = min(study.records().front, key=lambda point: point.values["model_bytes"])
    expect(page.locator("#best a").first).to_contain_text(f"trial {smallest.number}")
    page.wait_for_function(
        """trial => document.querySelector("#front .js-plotly-plot").data
            .find(t => t.name === "best within the bounds")?.customdata.includes(trial)""",
        arg=smallest.number,
    )


def test_select_download_and_export(page: Page, study: StoredStudy, url: str, tmp_path: Path) -> None:
    trial = study.records().front[1].number
    page.goto(f"/study/small/plan/{trial}")
    note = "<b>small</b> & <script>alert(1)</script>"
    page.get_by_label("Note").fill(note)
    page.get_by_role("button", name="Select for the full run").click()
    expect(page.locator("#full-run")).to_contain_text(f"Selected: {note}")
    expect(page.locator("#full-run")).to_contain_text("jointsearch worker small --full-runs")
    assert selected(study.optuna_study) == trial
    assert full_runs(study.optuna_study.user_attrs)[trial].selection.note == note
    with page.expect_download() as download:
        page.get_by_role("button", name="Download plan.json").click()
    assert download.value.suggested_filename == "plan.json"
    downloaded = json.loads(Path(download.value.path()).read_text())
    output = tmp_path / "plan.json"
    done = CliRunner().invoke(cli, ["export", "small", "-o", str(output), "--storage", url])
    assert done.exit_code == 0, done.output
    assert downloaded == json.loads(output.read_text())
    assert downloaded["origin"]["trial"] == trial


def test_it_follows_a_running_study_and_keeps_the_zoom(
    page: Page, study: StoredStudy, layout: ModelLayout
) -> None:
    open_front(page)
    (_, x1, y1), (_, x2, y2) = plotted(page, "front")[1], plotted(page, "front")[-1]
    start, end = page.evaluate(POSITION, [x1, y1]), page.evaluate(POSITION, [x2, y2])
    page.mouse.move(*start)
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
    page.wait_for_function(
        """expected => JSON.stringify(Array.from(document.querySelector("#front .js-plotly-plot").data
            .find(t => t.name === "front").customdata).sort((a, b) => a - b)) === JSON.stringify(expected)""",
        arg=expected,
    )
    assert page.evaluate(RANGES) == zoomed
    # the sliders stand at their ends, which have moved
    best = min(study.records().complete, key=lambda trial: trial.values["loss"])
    expect(page.locator("#best a").first).to_contain_text(f"trial {best.number}")
    largest = max(study.records().front, key=lambda point: point.values["model_bytes"])
    assert page.get_by_role("slider").first.get_attribute("aria-valuemax") == str(
        largest.measurement.model_bytes
    )
    expect(page.locator("#points tbody tr")).to_have_count(len(expected))


def test_it_waits_for_the_first_trial(
    page: Page, create: Callable[..., StoredStudy], layout: ModelLayout
) -> None:
    waiting = create(name="waiting")
    page.goto("/study/waiting")
    expect(page.get_by_text("No trial is complete yet.")).to_be_visible()
    Worker(waiting, FakeRunner(layout), max_trials=2).run()
    page.wait_for_selector("#front .scatterlayer .point")


def test_the_predicted_front_and_its_measurement(page: Page, study: StoredStudy) -> None:
    open_front(page)
    page.get_by_text("predicted front").click()
    page.wait_for_function(
        """() => document.querySelector("#front .js-plotly-plot").data.some(t => t.name === "predicted")"""
    )
    page.get_by_role("button", name="Measure the predicted best").click()
    expect(page.locator("#measured")).to_contain_text("waits for a worker")
    (requested,) = study.records().requested
    assert not requested.origin.name


def test_the_other_pages(page: Page, study: StoredStudy) -> None:
    front = study.records().front
    for path, there in (
        ("why", "#effects .scatterlayer .point"),
        ("progress", "#hypervolume .scatterlayer .js-line"),
        (f"compare/{front[0].number}/{front[1].number}", "h2:has-text('modules differ')"),
    ):
        page.goto(f"/study/small/{path}")
        page.wait_for_selector(there)


def test_optuna_dashboard_is_beside_it(page: Page) -> None:
    page.goto("/dashboard")
    page.get_by_role("link", name="small").first.wait_for()
    page.goto("/dashboard/studies/1/trials")
    expect(page.get_by_text("Trial 0", exact=False).first).to_be_visible()


def test_with_the_keyboard_on_a_phone_in_the_dark(browser: Browser, address: str, study: StoredStudy) -> None:
    context = browser.new_context(base_url=address, viewport=PHONE, color_scheme="dark", has_touch=True)  # type: ignore[arg-type]
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    page.goto("/")
    page.wait_for_selector("#studies a")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("#front .scatterlayer .point")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    colours = page.evaluate("""() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector("#front .xtick text")).fill]""")
    assert [luminance(colour) for colour in colours] == [pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.2)]
    page.locator("#points a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#plan .hm text")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cell = page.evaluate("getComputedStyle(document.querySelector('#plan .heatmap-label text')).fill")
    assert cell == "rgb(0, 0, 0)"
    context.close()


def luminance(colour: str) -> float:
    """0 is black, 1 is white."""
    channels = [int(value) for value in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(channels) / 3 / 255


def test_texts_of_a_study_run_no_script(browser: Browser, address: str, hostile: StoredStudy) -> None:
    context = browser.new_context(base_url=address)
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    name = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E"
    for path, there in (
        ("", "#front .point"),
        ("/plan/0", "#plan .hm"),
        ("/compare/0/0", "pre"),
        ("/progress", "#timeline .point"),
    ):
        page.goto(f"/study/{name}{path}")
        page.wait_for_selector(there)
        assert page.locator("main b, main i, main img, main script, main a[href*=evil]").count() == 0
    context.close()
    assert dialogs == []


def test_a_click_is_not_lost_where_the_clock_asks_before_its_answer(page: Page) -> None:
    """Dash leaves the answer to a click alone once the same callback has been asked again."""
    open_front(page)
    held: list[Route] = []

    def hold(route: Route) -> None:
        changed = (route.request.post_data_json or {}).get("changedPropIds", [])
        if changed == ["scale.value"]:
            held.append(route)
            return
        route.continue_()
        if changed == ["front-clock.n_intervals"] and held:
            held.pop().continue_()

    page.route(re.compile("/_dash-update-component"), hold)
    page.get_by_text("log", exact=True).click()
    page.wait_for_function(
        """() => document.querySelector("#front .js-plotly-plot")._fullLayout.xaxis.type === "log" """
    )
    assert page.evaluate(RANGES)[1] < 3  # of kilobytes, as powers of ten
    assert held == []
