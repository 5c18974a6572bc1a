"""Every page, on a desk and on a phone, light and dark: nothing is cut off, collides, or is hard to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from fixtures.chromium import (
    COLLIDING,
    DESKTOP,
    FRONT_POINTS,
    IN_CHROMIUM,
    LONG_MS,
    NAMELESS,
    OVERFLOWING,
    PHONE,
    click_point,
    luminance,
    open_front,
    plotted,
    watched,
)
from jointsearch.study.full_runs import select_trial
from jointsearch.study.stored import StoredStudy

pytestmark = IN_CHROMIUM

PAGES = {
    "/": "#studies a",
    "/study/small": FRONT_POINTS,
    "/study/small/plan/{0}": "#against table",
    "/study/small/compare/{0}/{1}": "table",
    "/study/small/trials": "#grid .ag-row",
    "/study/small/why": "#effects .point",
    "/study/small/progress": "#timeline .point",
    "/study/small/runs": "#runs table",
    "/study/waiting": "h1",
    "/study/smal": "h1",
}
"""By address: what is there once the page is; the numbers are trials of the front."""
SERIOUS = ("serious", "critical")


@pytest.fixture
def trials(study: StoredStudy, create: Callable[..., StoredStudy]) -> list[int]:
    """Of the front; beside the study one that waits, and in it a plan that is selected."""
    create(name="waiting")
    front = [point.number for point in study.records().front]
    select_trial(
        study.optuna_study, front[0], "a note that is long enough to fill more than a line of a phone"
    )
    return front


@pytest.fixture
def context(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """``request.param``: the size of the window, and the scheme."""
    size, scheme = request.param
    made = browser.new_context(base_url=address, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    made.set_default_timeout(LONG_MS)
    yield made
    made.close()


def wrongs(page: Page) -> dict[str, Any]:
    """What a person would object to."""
    # the figures and their font, which come after the page
    page.wait_for_function("document.fonts.status === 'loaded'")
    page.wait_for_timeout(300)
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    found = {
        "overflowing": page.evaluate(OVERFLOWING),
        "colliding": page.evaluate(COLLIDING),
        "nameless": page.evaluate(NAMELESS),
        "sideways": [width] if width[0] > width[1] else [],
        "axe": [
            (violation["id"], [node["target"] for node in violation["nodes"]][:3])
            for violation in Axe().run(page).response["violations"]
            if violation["impact"] in SERIOUS
        ],
    }
    return {name: what for name, what in found.items() if what}


EVERYWHERE = pytest.mark.parametrize(
    "context",
    [(size, scheme) for size in (DESKTOP, PHONE) for scheme in ("light", "dark")],
    indirect=True,
    ids=["desk-light", "desk-dark", "phone-light", "phone-dark"],
)


@EVERYWHERE
def test_every_page(context: BrowserContext, address: str, trials: list[int]) -> None:
    page = context.new_page()
    done = watched(page, address)
    found = {}
    for path, there in PAGES.items():
        page.goto(path.format(*trials))
        page.wait_for_selector(there)
        found[path] = wrongs(page)
    assert {path: what for path, what in found.items() if what} == {}
    assert done == {"errors": [], "foreign": []}


@EVERYWHERE
def test_the_drawer_and_moved_sliders(context: BrowserContext, trials: list[int]) -> None:
    page = context.new_page()
    open_front(page)
    handle = page.get_by_role("slider")
    for key in ("Home", *["PageUp"] * 3, "End"):
        handle.focus()
        handle.press(key)
        page.wait_for_timeout(600)
        assert page.evaluate(COLLIDING) == [], key
    page.get_by_text("predicted, 90 %").click()
    page.wait_for_function(
        """() => document.querySelector("#front .js-plotly-plot").data.some(t => t.name === "predicted")"""
    )
    assert wrongs(page) == {}
    page.locator("#front").scroll_into_view_if_needed()
    click_point(page, plotted(page, "front")[1])
    page.wait_for_selector(".mantine-Drawer-content .stats")
    page.wait_for_timeout(400)  # it slides in
    assert wrongs(page) == {}


@pytest.mark.parametrize("width", [1100, 820, 640])
def test_widths_between(browser: Browser, address: str, trials: list[int], width: int) -> None:
    context = browser.new_context(base_url=address, viewport={"width": width, "height": 900})
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    found = {}
    for path, there in PAGES.items():
        page.goto(path.format(*trials))
        page.wait_for_selector(there)
        page.wait_for_timeout(300)
        sideways = page.evaluate("document.documentElement.scrollWidth") - width
        found[path] = [sideways, *page.evaluate(COLLIDING)]
    context.close()
    assert {path: what for path, what in found.items() if what != [0]} == {}


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("document.querySelector('.stat dd').textContent = 'x'.repeat(90)", "overflowing"),
        ("document.querySelector('#page').style.width = '3000px'", "sideways"),
        ("document.querySelector('#scheme').removeAttribute('aria-label')", "nameless"),
        (
            "document.querySelectorAll('.ytick text').forEach(t => t.setAttribute('y', 100))"
            " || document.querySelectorAll('.ytick text').forEach(t => t.removeAttribute('transform'))",
            "colliding",
        ),
        ("document.querySelector('section:not([hidden]) h2').style.color = 'var(--line)'", "axe"),
    ],
)
def test_what_is_wrong_would_be_found(
    browser: Browser, address: str, trials: list[int], broken: str, kind: str
) -> None:
    context = browser.new_context(base_url=address, viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    open_front(page)
    page.evaluate(broken)
    assert kind in wrongs(page)
    context.close()


def test_a_person_chooses_the_scheme(browser: Browser, address: str, trials: list[int]) -> None:
    context = browser.new_context(base_url=address, viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    colours = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector("#front .xtick text")).fill]"""
    open_front(page)
    assert [luminance(colour) > 0.5 for colour in page.evaluate(colours)] == [True, False]
    page.get_by_role("button", name="Switch between light and dark").click()
    page.wait_for_function(
        """() => { const text = document.querySelector("#front .xtick text")
            return text && getComputedStyle(text).fill === "rgb(163, 172, 183)" }"""
    )
    assert [luminance(colour) > 0.5 for colour in page.evaluate(colours)] == [False, True]
    page.reload()
    page.wait_for_selector(FRONT_POINTS)
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.2
    context.close()
