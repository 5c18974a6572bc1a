"""Takes the README's pictures of the dashboard, in headless Chromium.

    make screenshots        # or: python studies/screenshots.py [--storage URL NAME]

Without a storage the quickstart study is run first, which takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import waitress
from playwright.sync_api import sync_playwright

from jointsearch.dashboard.serving import create_dashboard
from jointsearch.study.plans import chosen_trial, complete_trial, records_with_front
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import open_study

TARGET = Path(__file__).parent / "screenshots"
WIDTH, HEIGHT = 900, 760


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", nargs=2, metavar=("URL", "NAME"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url, name = arguments.storage or (f"sqlite:///{folder}/studies.db", "quickstart")
        if not arguments.storage:
            command = [sys.executable, "-m", "jointsearch", "study", "start", "quickstart", "--storage", url]
            subprocess.run(command, check=True)
        take(url, name)


def take(url: str, name: str) -> None:
    storage = open_storage(url)
    study = open_study(storage, name)
    front = records_with_front(study).front
    chosen = complete_trial(study, chosen_trial(study))
    server = waitress.create_server(create_dashboard(storage), host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    TARGET.mkdir(exist_ok=True)
    browser_path = os.environ.get("JOINTSEARCH_TEST_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(
            base_url=f"http://127.0.0.1:{server.effective_port}", viewport={"width": WIDTH, "height": HEIGHT}
        )
        other = next(point.number for point in front if point.number != chosen.number)
        for picture, path, there in (
            ("front", "", "#front .point"),
            ("plan", f"/plan/{chosen.number}", "#plan .hm"),
            ("compare", f"/compare/{other}/{chosen.number}", "table"),
            ("why", "/why", "#effects .point"),
            ("progress", "/progress", "#timeline .point"),
        ):
            page.goto(f"/study/{name}{path}")
            page.wait_for_selector(there)
            if picture == "front":
                page.get_by_text("predicted front").click()
                page.wait_for_function(
                    "() => document.querySelector('#front .js-plotly-plot').data.length > 5"
                )
            page.wait_for_timeout(500)  # for the figures' transitions
            page.screenshot(path=TARGET / f"{picture}.png")
        browser.close()


if __name__ == "__main__":
    main()
