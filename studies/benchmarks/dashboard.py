"""Measures the dashboard: how soon it answers, what goes over the wire, and what it costs who writes.

    python studies/benchmarks/dashboard.py [--trials 5000] [--only sqlite] [--output FILE]

A study of 1000 trials with 72 parameters (the fake runner's) on SQLite and on PostgreSQL, served by
``jointsearch dashboard``. ``start``: from the start of the process to the first answer. ``first_view``: the
request that shows the study's front, in a server that has read nothing of it yet; ``later_view``: in one
that has. ``refresh``: the clock's request after another trial has finished; ``quiet_refresh``: where nothing
has changed; ``trials_…``: the same of the page of all trials. Seconds at the client, and in ``…_cpu_seconds``
those that the server has computed, on which other work of the machine has less of an effect. Bytes of the
answers' bodies, and of those as they are sent to a browser, compressed.

``browser``: from the address to the drawn front, in a headless Chromium that has nothing in its cache, and in
one that has seen the page. ``writer``: seconds per trial of a worker whose trials sleep for half a second,
while a browser shows the front and without one, in turns; the ratio within each turn, and the median of
them. ``viewer_cores``: how many cores the server and the browser keep busy meanwhile. ``load``: of the
machine, over the last minute, at the begin and at the end. Medians of five, and of seven turns. No torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPCookieProcessor, Request, build_opener

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from workers import Sleeping, databases, new_study

from jointsearch.runner import Runner
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

TRIALS, PARAMETERS = 1000, 72
REPEATS = 5
TURNS = 7
"""Of the writer."""
WRITTEN = 10
"""Trials in each turn of the writer."""
PATH = "/study/benchmark"
TRIALS_PAGE = "/trials"
LOOK = {"dark": False, "phone": False, "query": ""}
AXIS = "model_bytes"
OLD = {"version": "old", "by": "size", "bound": 1e12, "steps": "10", "axis": AXIS, "layers": []}
"""What a page shows that has seen nothing yet."""


class Client:
    """A browser's requests, without the browser."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self._cookies))
        self.process = process
        self.is_compressed = False

    def get(self, path: str) -> bytes:
        answer: bytes = self._opener.open(self.address + path).read()
        return answer

    def call(self, outputs: list[str], inputs: dict[str, Any], state: dict[str, Any], changed: str) -> bytes:
        """A callback of Dash's: what it answers."""
        specs = [dict(zip(("id", "property"), name.split("."), strict=True)) for name in outputs]
        body = {
            "output": f"..{'...'.join(outputs)}.." if len(outputs) > 1 else outputs[0],
            "outputs": specs if len(specs) > 1 else specs[0],
            "inputs": [self._value(name, value) for name, value in inputs.items()],
            "state": [self._value(name, value) for name, value in state.items()],
            "changedPropIds": [changed],
        }
        token = next(cookie.value for cookie in self._cookies if cookie.name.startswith("jointsearch_csrf"))
        headers = {"Content-Type": "application/json", "X-CSRFToken": str(token)}
        request = Request(f"{self.address}/_dash-update-component", json.dumps(body).encode(), headers)
        if self.is_compressed:
            request.add_header("Accept-Encoding", "gzip")
        answer: bytes = self._opener.open(request).read()
        return answer

    def page(self, path: str = PATH) -> bytes:
        outputs = ["top.children", "page.children"]
        return self.call(outputs, {"look.data": LOOK}, {"address.pathname": path}, "look.data")

    def refresh(self, seen: dict[str, Any], output: str) -> bytes:
        """The clock's request; ``output``: the callback's name."""
        names = output.strip(".").split("...")
        inputs = {
            "front-clock.n_intervals": 1,
            "by.value": "size",
            "bound.value": seen["bound"],
            "steps.value": "10",
            "axis.value": AXIS,
            "layers.value": [],
        }
        state = {
            "address.pathname": PATH,
            "look.data": LOOK,
            "bound.min": 0.0,
            "bound.max": 1e12,
            "seen.data": seen,
            "front.relayoutData": None,
        }
        return self.call(names, inputs, state, "front-clock.n_intervals")

    def refresh_trials(self, seen: str, output: str) -> bytes:
        names = output.strip(".").split("...")
        state = {"address.pathname": PATH + TRIALS_PAGE, "trials-seen.data": seen, "look.data": LOOK}
        return self.call(names, {"trials-clock.n_intervals": 1}, state, "trials-clock.n_intervals")

    def sent(self, call: Callable[[], bytes]) -> int:
        """Bytes of the answer as a browser gets it."""
        self.is_compressed = True
        try:
            return len(call())
        finally:
            self.is_compressed = False

    def cpu_seconds(self) -> float:
        """That the server has computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def output_of(self, name: str) -> str:
        """The output of the callback that sets ``name``."""
        known = json.loads(self.get("/_dash-dependencies"))
        return next(entry["output"] for entry in known if f"..{name}" in entry["output"])

    @staticmethod
    def _value(name: str, value: Any) -> dict[str, Any]:
        component, prop = name.split(".")
        return {"id": component, "property": prop, "value": value}


@contextmanager
def served(url: str) -> Iterator[tuple[Client, float]]:
    """A client of a new server, and the seconds until its first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jointsearch", "dashboard", "--port", str(port), "--storage", url]
    command.append("--no-token")
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    client = Client(port, process)
    try:
        while True:
            try:
                client.get("/")
                break
            except URLError:
                time.sleep(0.01)
        yield client, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def timed(client: Client, call: Callable[[], bytes]) -> tuple[float, float, bytes]:
    """Seconds at the client, seconds of the server's cores, and the answer."""
    start, before = time.perf_counter(), client.cpu_seconds()
    answer = call()
    return time.perf_counter() - start, client.cpu_seconds() - before, answer


def measure(url: str, trials: int) -> dict[str, Any]:
    study = new_study(url, PARAMETERS // 2, trials)
    Worker(study, FakeRunner(study.layout, noise=0.02)).run()
    starts, first = [], []
    for _ in range(REPEATS):
        with served(url) as (client, seconds):
            starts.append(seconds)
            first.append(timed(client, client.page))
    with served(url) as (client, _):
        client.page()
        views = [timed(client, client.page) for _ in range(REPEATS)]
        found = {
            "start_seconds": median(starts),
            **summary("first_view", first),
            **summary("later_view", views),
            "view_sent_bytes": client.sent(client.page),
            **refreshes(client, study),
            **trials_page(client, study),
        }
    return {**found, **browsing(url, study)}


def refreshes(client: Client, study: StoredStudy) -> dict[str, Any]:
    """Of the front, after another trial, and where nothing has changed."""
    output = client.output_of("front.figure")
    changed, quiet = [], []
    for _ in range(REPEATS):
        add_trial(study)
        changed.append(timed(client, lambda: client.refresh(OLD, output)))
        seen = json.loads(changed[-1][2])["response"]["seen"]["data"]
        quiet.append(timed(client, lambda seen=seen: client.refresh(seen, output)))  # type: ignore[misc]
    return {
        **summary("refresh", changed),
        "refresh_sent_bytes": client.sent(lambda: client.refresh(OLD, output)),
        **summary("quiet_refresh", quiet),
    }


def trials_page(client: Client, study: StoredStudy) -> dict[str, Any]:
    """The same of the page of all trials."""
    output = client.output_of("trials-seen.data")
    views = [timed(client, lambda: client.page(PATH + TRIALS_PAGE)) for _ in range(REPEATS)]
    changed = []
    for _ in range(REPEATS):
        add_trial(study)
        changed.append(timed(client, lambda: client.refresh_trials("old", output)))
    return {
        **summary("trials_view", views),
        **summary("trials_refresh", changed),
        "trials_refresh_sent_bytes": client.sent(lambda: client.refresh_trials("old", output)),
    }


def summary(name: str, found: list[tuple[float, float, bytes]]) -> dict[str, float]:
    return {
        f"{name}_seconds": median([seconds for seconds, _, _ in found]),
        f"{name}_cpu_seconds": median([seconds for _, seconds, _ in found]),
        f"{name}_bytes": len(found[-1][2]),
    }


def add_trial(study: StoredStudy, runner: Runner | None = None, count: int = 1) -> None:
    search = study.config.search
    more = study.config.model_copy(
        update={"search": search.model_copy(update={"trials": len(study.records().trials) + count})}
    )
    Worker(study.with_config(more), runner or FakeRunner(study.layout, noise=0.02)).run()


def browsing(url: str, study: StoredStudy) -> dict[str, Any]:
    """In a real browser: seconds to the drawn front, and what a viewer costs a writer."""
    first, again, ratios, cores = [], [], [], []
    alone: list[float] = []
    watched: list[float] = []
    path = os.environ.get("JOINTSEARCH_TEST_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright, served(url) as (client, _):
        client.page()
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for turn in range(TURNS):
            for is_watched in (True, False) if turn % 2 else (False, True):  # other work grows and shrinks
                context = chromium.new_context(base_url=client.address)
                page = context.new_page()
                if is_watched:
                    for times in (first, again):
                        start = time.perf_counter()
                        page.goto(PATH)
                        page.wait_for_selector("#front .point", timeout=300_000)
                        times.append(time.perf_counter() - start)
                start, before = time.perf_counter(), cpu_seconds_below(os.getpid())
                (watched if is_watched else alone).append(_writing(study))
                if is_watched:
                    cores.append((cpu_seconds_below(os.getpid()) - before) / (time.perf_counter() - start))
                context.close()
            ratios.append(watched[-1] / alone[-1])
        chromium.close()
    return {
        "browser_first_seconds": median(first),
        "browser_again_seconds": median(again),
        "writer_alone_seconds": median(alone),
        "writer_watched_seconds": median(watched),
        "writer_ratio": median(ratios),
        "writer_ratios": sorted(round(ratio, 3) for ratio in ratios),
        "viewer_cores": median(cores),
    }


def cpu_seconds_below(process: int) -> float:
    """That all processes which ``process`` has started have computed, and those that they have."""
    parents, spent = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(file.parent.name)
        parents[number], spent[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    below = {process}
    while more := {number for number, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(spent.get(number, 0) for number in below - {process}) / os.sysconf("SC_CLK_TCK")


def _writing(study: StoredStudy) -> float:
    start = time.perf_counter()
    add_trial(study, Sleeping(study.layout), WRITTEN)
    return (time.perf_counter() - start) / WRITTEN


def median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": [round(os.getloadavg()[0], 1)],
        "trials": arguments.trials,
        "parameters": PARAMETERS,
    }
    with databases() as new:
        for kind, url in new.items():
            if arguments.only in (None, kind):
                result[kind] = measure(url(), arguments.trials)
                print(kind, json.dumps(result[kind], indent=1), flush=True)
    result["load"].append(round(os.getloadavg()[0], 1))
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
