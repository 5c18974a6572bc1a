"""A storage that does not answer: the page stays, says so and since when, and goes on by itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.exc import OperationalError

from fixtures.chromium import FRONT_POINTS, IN_CHROMIUM, LONG_MS, PHONE, open_front
from jointsearch.study.storage.reading import ChangedTrials
from jointsearch.study.stored import StoredStudy

pytestmark = IN_CHROMIUM


def break_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    monkeypatch.setattr(ChangedTrials, "read", read)


def new_page(browser: Browser, address: str) -> Page:
    """One that may have errors in its console."""
    context = browser.new_context(base_url=address, viewport=PHONE)  # type: ignore[arg-type]
    context.set_default_timeout(LONG_MS)
    return context.new_page()


def test_what_is_shown_stays(
    browser: Browser, address: str, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = new_page(browser, address)
    open_front(page)
    banner = page.get_by_role("alert")
    expect(banner).to_be_hidden()
    break_storage(monkeypatch)
    expect(banner).to_contain_text("The storage does not answer")
    expect(banner).to_contain_text("database is locked. What you see is")
    assert page.locator(FRONT_POINTS).count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    monkeypatch.undo()
    expect(banner).to_be_hidden()
    page.context.close()


def test_a_page_comes_once_the_storage_is_back(
    browser: Browser, address: str, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = new_page(browser, address)
    break_storage(monkeypatch)
    page.goto("/study/small")
    expect(page.get_by_role("alert")).to_contain_text("database is locked")
    monkeypatch.undo()
    page.wait_for_selector(FRONT_POINTS)
    expect(page.get_by_role("alert")).to_be_hidden()
    page.context.close()


def test_a_dashboard_that_is_gone(browser: Browser, address: str, study: StoredStudy) -> None:
    page = new_page(browser, address)
    open_front(page)
    asked = re.compile("/(_dash-update-component|healthz)")
    page.route(asked, lambda route: route.abort())
    expect(page.get_by_role("alert")).to_contain_text("The dashboard does not answer")
    page.unroute(asked)
    page.wait_for_selector(FRONT_POINTS)
    expect(page.get_by_role("alert")).to_be_hidden()
    page.context.close()
