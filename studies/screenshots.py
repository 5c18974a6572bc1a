"""Takes the pictures of the dashboard for README and docs, in headless Chromium.

    make screenshots        # or: python studies/screenshots.py [--storage URL NAME]

By default of the quickstart study, as it is recorded in ``quickstart/study.sql.gz``.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any

import waitress
from playwright.sync_api import Page, sync_playwright

from jointsearch.dashboard.serving import create_dashboard
from jointsearch.export.serving import carriers
from jointsearch.study.plans import records_with_front
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import open_study

HERE = Path(__file__).parent
RECORDED = HERE / "quickstart" / "study.sql.gz"
TARGET = HERE / "screenshots"
WIDTH, HEIGHT = 1280, 860
PHONE_WIDTH, PHONE_HEIGHT = 390, 844


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", nargs=2, metavar=("URL", "NAME"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        take(*(arguments.storage or (recorded(Path(folder)), "quickstart")))


def recorded(folder: Path) -> str:
    """The recorded study's storage, made in ``folder``."""
    path = folder / "studies.db"
    database = sqlite3.connect(path)
    database.executescript(gzip.decompress(RECORDED.read_bytes()).decode())
    database.close()
    return f"sqlite:///{path}"


def take(url: str, name: str) -> None:
    """Write every picture into ``TARGET``."""
    storage = open_storage(url, create=True)  # with all that optuna-dashboard asks for
    study = open_study(storage, name)
    front = records_with_front(study).answer.front
    searched = [point.number for point in front if not point.origin.is_named]
    chosen = searched[len(searched) // 2] if searched else front[0].number
    other = next(point.number for point in front if point.number != chosen)
    server = waitress.create_server(
        create_dashboard(storage, carriers=carriers), host="127.0.0.1", port=0, threads=8
    )
    threading.Thread(target=server.run, daemon=True).start()
    TARGET.mkdir(exist_ok=True)
    path = os.environ.get("JOINTSEARCH_TEST_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])

        def page(width: int = WIDTH, height: int = HEIGHT, **options: Any) -> Page:
            made = browser.new_page(
                base_url=f"http://127.0.0.1:{server.effective_port}",
                viewport={"width": width, "height": height},
                **options,
            )
            made.set_default_timeout(120_000)
            return made

        desk, dark = page(), page(color_scheme="dark")
        phone = page(PHONE_WIDTH, PHONE_HEIGHT, device_scale_factor=2)
        for picture, where, address, there in (
            ("front", desk, "", "#front .point"),
            ("front-dark", dark, "", "#front .point"),
            ("front-phone", phone, "", "#front .point"),
            ("plan", desk, f"/plan/{chosen}", "#against table"),
            ("compare", desk, f"/compare/{other}/{chosen}", "table"),
            ("trials", desk, "/trials", "#grid .ag-row"),
            ("why", desk, "/why", "#effects .point"),
            ("progress", desk, "/progress", "#timeline .point"),
        ):
            where.goto(f"/study/{name}{address}")
            where.wait_for_selector(there)
            where.wait_for_timeout(500)  # for the font, and the figures' sizes
            where.screenshot(path=TARGET / f"{picture}.png")
        browser.close()


if __name__ == "__main__":
    main()
