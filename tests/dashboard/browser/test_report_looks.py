"""The report in a real browser: light and dark as its reader's system is, and light on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from fixtures.chromium import COLLIDING, IN_CHROMIUM, LONG_MS, luminance, watched
from jointsearch.dashboard.report import report_html
from jointsearch.study.stored import StoredStudy

pytestmark = IN_CHROMIUM

DRAWN = "document.querySelectorAll('.plotly-graph-div .xtick text').length > 20"
COLOURS = """() => [getComputedStyle(document.body).backgroundColor,
    ...Array.from(document.querySelectorAll(".xtick text"), text => getComputedStyle(text).fill)]"""
SERIOUS = ("serious", "critical")


def lights(colours: list[str]) -> set[bool]:
    return {luminance(colour) > 0.5 for colour in colours}


@pytest.mark.parametrize("width", [1440, 390])
def test_it_follows_its_readers_scheme(
    browser: Browser, study: StoredStudy, tmp_path: Path, width: int
) -> None:
    file = tmp_path / "report.html"
    file.write_text(report_html(study), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark")
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    done = watched(page, "file:")
    page.goto(file.as_uri())
    page.wait_for_function(DRAWN)
    ground, *texts = page.evaluate(COLOURS)
    assert (lights([ground]), lights(texts)) == ({False}, {True})
    violations = Axe().run(page).response["violations"]
    assert [entry["id"] for entry in violations if entry["impact"] in SERIOUS] == []
    page.emulate_media(color_scheme="light")
    page.wait_for_function("document.documentElement.dataset.mantineColorScheme === 'light'")
    ground, *texts = page.evaluate(COLOURS)
    assert (lights([ground]), lights(texts)) == ({True}, {False})
    if width > 1000:
        assert page.evaluate(COLLIDING) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.mantineColorScheme === 'dark'")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ground, *texts = page.evaluate(COLOURS)
    assert (lights([ground]), lights(texts)) == ({True}, {False})
    assert page.evaluate("Array.from(document.fonts, font => font.status)") == ["loaded"]
    context.close()
    assert done == {"errors": [], "foreign": []}
