"""One process of the tests of test_storage.py.

worker_process.py open URL            opens the storage, creating it
worker_process.py work URL NAME       runs the trials of a study with a fake runner that takes a while
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from jointsearch.layout import ModelLayout
from jointsearch.plan import Plan
from jointsearch.runner import Budget, FakeRunner, Measurement
from jointsearch.study.storage import open_storage
from jointsearch.study.studies import open_study, study_names
from jointsearch.study.worker import Worker


@dataclass
class SlowRunner:
    layout: ModelLayout

    def run(self, plan: Plan, budget: Budget) -> Measurement:
        print(f"ran {plan.digest}", flush=True)
        time.sleep(0.05)
        return FakeRunner(self.layout).run(plan, budget)


def main() -> None:
    action, url, *names = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()  # all processes begin at the same moment
    if action == "open":
        print(f"studies {len(study_names(open_storage(url, create=True)))}")
    else:
        study = open_study(open_storage(url), names[0])
        Worker(study, SlowRunner(study.layout)).run()


main()
