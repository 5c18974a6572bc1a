"""One process of the tests of storages and workers.

worker_process.py open URL            opens the storage, creating it
worker_process.py create URL NAME     creates the small study of that name, or finds it
worker_process.py proxy URL PORT      `jointsearch storage proxy`
worker_process.py work URL NAME [SECONDS [END]]
    runs the trials of a study with a fake runner that takes so long; where END is 'fail' its first trial
    fails and it leaves, where it is 'hang' a trial ends never
worker_process.py run NAME            `work` at once, with the storage of JOINTSEARCH_STORAGE
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from jointsearch.cli import main as jointsearch
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Budget
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.locks import creation_lock
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import create_study, find_study, load_study, study_names
from jointsearch.study.worker import time_limit
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

FIXTURES = Path(__file__).parents[1] / "domain_fixtures"

# a test cannot wait for minutes until a lost worker is missed
heartbeats.HEARTBEAT_SECONDS = 1
heartbeats.STALE_SECONDS = 4
time_limit.GRACE_SECONDS = 1


@dataclass
class SlowRunner:
    layout: ModelLayout
    seconds: float
    end: str

    def run(self, plan: Plan, budget: Budget) -> Measurement:
        print(f"ran {plan.digest}", flush=True)
        time.sleep(3600 if self.end == "hang" else self.seconds)
        if self.end == "fail":
            raise TrialFailed("no measurement today")
        return FakeRunner(self.layout).run(plan, budget)


def main() -> None:
    action, url, *words = sys.argv[1:]
    if action == "run":
        url, words = os.environ["JOINTSEARCH_STORAGE"], [url, *words]
    else:
        print("ready", flush=True)
        sys.stdin.readline()  # all processes begin at the same moment
    if action == "open":
        print(f"studies {len(study_names(open_storage(url, create=True)))}")
        return
    if action == "proxy":
        sys.argv = ["jointsearch", "storage", "proxy", "--storage", url, "--port", words[0]]
        jointsearch()
        return
    name = words[0]
    if action == "create":
        config = read_study(FIXTURES / "study.yaml").model_copy(update={"name": name})
        layout = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
        opened = open_storage(url, create=True)
        with creation_lock(url):
            study = find_study(opened, name) or create_study(opened, config, layout)
        print(f"trials {len(study.records().trials)}")
        return
    study = load_study(name, url)
    end = words[2] if words[2:] else ""
    runner = SlowRunner(study.layout, float(words[1]) if words[1:] else 0.05, end)
    worker = Worker(study, runner, max_trials=1 if end == "fail" else None)
    with stop_on_signals(worker):
        worker.run()


main()
