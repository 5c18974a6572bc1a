"""A served study, and a page that must make no error and ask nobody but the dashboard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import waitress
from optuna.storages import RDBStorage
from playwright.sync_api import Browser, Page, sync_playwright

from fixtures.chromium import ARGUMENTS, CHROMIUM, LONG_MS, watched
from fixtures.memory import profile_of
from jointsearch.config.study import StudyConfig
from jointsearch.dashboard.serving import create_dashboard
from jointsearch.export.serving import carriers
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def study(configure: Callable[..., StudyConfig], storage: RDBStorage, layout: ModelLayout) -> StoredStudy:
    """Half of its trials are done; what memory they take is foretold."""
    config = configure(search={"trials": 40, "sampler": "random"}, search_space={"ranks": [0, 2, 4, 8]})
    made = create_study(storage, config, layout, profile_of(layout))
    Worker(made, FakeRunner(layout), max_trials=20).run()
    return made


@pytest.fixture
def address(study: StoredStudy, storage: RDBStorage) -> Iterator[str]:
    """Of the served dashboard."""
    server = waitress.create_server(
        create_dashboard(storage, carriers=carriers), host="127.0.0.1", port=0, threads=8
    )

    def run() -> None:
        with suppress(OSError):  # it may be looking at its sockets while they are closed
            server.run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    server.task_dispatcher.shutdown()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(base_url=address, viewport={"width": 1200, "height": 900})
    context.set_default_timeout(LONG_MS)
    page = context.new_page()
    found = watched(page, address)
    yield page
    context.close()
    assert found == {"errors": [], "foreign": []}
