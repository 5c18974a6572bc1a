"""The other pages in a real browser: a plan, all trials, what parts are worth, and optuna-dashboard."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from playwright.sync_api import Browser, Page, expect

from fixtures.chromium import FRONT_POINTS, IN_CHROMIUM, LONG_MS, PHONE, luminance
from jointsearch.cli import cli
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.full_runs import full_runs, selected
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

pytestmark = IN_CHROMIUM

FOREGROUND = """() => Array.from(document.querySelector("#parallel .js-plotly-plot").data[1].x)
    .filter(x => x === null).length"""
"""How many trials are in the foreground of the parallel axes."""


def test_a_plan_shows_what_it_says_of_every_module(page: Page, study: StoredStudy) -> None:
    trial = next(t for t in study.records().complete if t.origin.kind == "search")
    page.goto(f"/study/small/plan/{trial.number}")
    page.wait_for_selector("#against table")
    shown = {}
    for title in page.locator(".hm > div[title]").evaluate_all("cells => cells.map(c => c.title)"):
        name, _, says = title.partition(": ")
        shown[name.replace(" ", ".", 1)] = says
    expected = {
        name: f"{choice.bits} bits, rank {choice.rank}" for name, choice in trial.plan.modules.items()
    }
    # a row has modules of equal choices, and stands for the first of them
    found = {name: says for name, says in shown.items() if not name.startswith("outside")}
    assert found and found.items() <= expected.items()
    assert set(found.values()) == {says for name, says in expected.items() if name.startswith("layers.")}


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
    page.get_by_role("link", name="Full runs").click()
    expect(page.locator("#runs")).to_contain_text(note)


def test_all_trials_are_filtered_and_saved(page: Page, study: StoredStudy) -> None:
    page.goto("/study/small/trials")
    page.wait_for_selector("#grid .ag-row")
    front = {trial.number for point in study.records().front for trial in point.trials}
    page.wait_for_function(f"() => ({FOREGROUND})() === {len(front)}")
    named = [t.number for t in study.records().complete if t.origin.is_named and t.number not in front]
    page.get_by_text(f"Named {len(named)}").click()
    expect(page.locator("#grid .ag-center-cols-container .ag-row")).to_have_count(len(named))
    page.wait_for_function(f"() => ({FOREGROUND})() === {len(named)}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    assert download.value.suggested_filename == "small-trials.csv"
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert [int(row["Trial"]) for row in rows] == named
    losses = {t.number: t.values["loss"] for t in study.records().complete}
    assert all(abs(float(row["loss"]) - losses[int(row["Trial"])]) < 1e-6 for row in rows)
    page.get_by_text(f"All {len(study.records().trials)}").click()
    page.get_by_label("Filter the table").fill("16-bit r8")
    expect(page.locator("#grid .ag-center-cols-container .ag-row")).to_have_count(1)
    page.wait_for_url(re.compile(r"\?filter=16-bit\+r8$"))
    page.reload()  # the address keeps it
    expect(page.locator("#grid .ag-center-cols-container .ag-row")).to_have_count(1)
    page.goto("/study/small/trials?kind=named")
    expect(page.locator("#grid .ag-center-cols-container .ag-row")).to_have_count(len(named))
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Seed", exact=True).check()
    expect(page.locator("#grid .ag-header-cell-text", has_text="Seed")).to_be_visible()
    page.reload()
    expect(page.locator("#grid .ag-header-cell-text", has_text="Seed")).to_be_visible()
    page.goto("/study/small/trials")
    page.locator("#grid a", has_text="4-bit r0").first.click()
    page.wait_for_selector("#against table")


def test_the_table_of_trials_follows_a_running_study(
    page: Page, study: StoredStudy, layout: ModelLayout
) -> None:
    page.goto("/study/small/trials")
    page.wait_for_selector("#grid .ag-row")
    Worker(study, FakeRunner(layout)).run()
    records = study.records()
    expect(page.get_by_text(f"All {len(records.trials)}")).to_be_visible()
    front = {trial.number for point in records.front for trial in point.trials}
    page.wait_for_function(f"() => ({FOREGROUND})() === {len(front)}")
    sizes = [trial.measurement.model_bytes / 1e6 for trial in records.complete]
    ends = page.locator("#parallel .annotation-text").all_text_contents()
    assert {f"{min(sizes):.4g}", f"{max(sizes):.4g}"} <= set(ends)


def test_a_table_that_was_opened_before_the_first_trial_fills(
    page: Page, create: Callable[..., StoredStudy], layout: ModelLayout
) -> None:
    waiting = create(name="waiting")
    page.goto("/study/waiting/trials")
    expect(page.get_by_text("No trial is complete yet")).to_be_visible()
    Worker(waiting, FakeRunner(layout), max_trials=2).run()
    expect(page.locator("#grid .ag-center-cols-container .ag-row")).to_have_count(
        len(waiting.records().trials)
    )
    page.wait_for_selector("#parallel .scatterlayer path")
    expect(page.get_by_text("No trial is complete yet")).to_have_count(0)


def test_two_plans_and_the_worth_of_parts(page: Page, study: StoredStudy) -> None:
    front = study.records().front
    page.goto(f"/study/small/compare/{front[0].number}/{front[1].number}")
    page.wait_for_selector("h2:has-text('modules differ')")
    page.goto("/study/small/why")
    page.wait_for_selector("#effects .scatterlayer .point")
    page.get_by_text("Per MB").click()
    page.wait_for_function(
        """() => document.querySelector("#effects .js-plotly-plot").layout.annotations
            .some(a => a.text.includes("per MB"))"""
    )
    assert page.locator("#importances").count() == 0  # they are counted for who asks
    page.get_by_role("button", name="Optuna's importances").click()
    page.wait_for_selector("#importances .bars path")


def test_a_study_is_found_among_others(page: Page) -> None:
    page.goto("/")
    page.wait_for_selector("#studies a")
    page.get_by_label("Search", exact=True).fill("nothing like it")
    expect(page.get_by_text("No study is like that.")).to_be_visible()
    page.get_by_label("Search", exact=True).fill("SMALL")
    expect(page.locator("#studies a")).to_have_count(1)
    page.goto("/study/smalll")
    page.get_by_role("link", name="small").click()
    page.wait_for_selector(FRONT_POINTS)


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
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # from the content's beginning to the search, the kinds and the first study
    while not page.evaluate("document.activeElement.closest('#studies')"):
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector(FRONT_POINTS)
    colours = page.evaluate("""() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector("#front .xtick text")).fill]""")
    assert luminance(colours[0]) < 0.2 and luminance(colours[1]) > 0.6
    page.locator("#points a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#against table")
    assert page.locator(".hm:not(.mini) > div[title]").count() > 0
    context.close()


def test_texts_of_a_study_run_no_script(browser: Browser, address: str, hostile: StoredStudy) -> None:
    context = browser.new_context(base_url=address)
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    name = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E"
    for path, there in (
        ("", FRONT_POINTS),
        ("/plan/0", ".hm"),
        ("/compare/0/0", "pre"),
        ("/trials", "#grid .ag-row"),
        ("/progress", "#timeline .point"),
    ):
        page.goto(f"/study/{name}{path}")
        page.wait_for_selector(there)
        assert page.locator("main i:has-text('host'), main img, main script, main a[href*=evil]").count() == 0
    context.close()
    assert dialogs == []
