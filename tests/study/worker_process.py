"""One process of the tests of storages, workers and launchers.

worker_process.py open URL            opens the storage, creating it
worker_process.py create URL NAME     creates the small study of that name, or finds it
worker_process.py proxy URL PORT      `jointsearch storage proxy`
worker_process.py work URL NAME       runs the trials of a study with a fake runner
worker_process.py run NAME            `work` at once, with the storage of JOINTSEARCH_STORAGE

Options of `work` and `run`:
--gate FOLDER   every trial begins, and ends when it has taken a file of the folder, or `open` is in it
--deaf          trials do not ask whether they should stop
--fail          its first trial fails, and it leaves
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from jointsearch.cli import main as jointsearch
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import TrialFailed, TrialInterrupted
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study import control
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.locks import creation_lock
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import create_study, find_study, load_study, study_names
from jointsearch.study.worker import time_limit
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

FIXTURES = Path(__file__).parents[1] / "fixtures"

# A test cannot wait for minutes until a lost worker is missed; a worker that lives must be able to beat in
# that time on a machine that is busy.
heartbeats.HEARTBEAT_SECONDS = 1
heartbeats.STALE_SECONDS = 8


def tell_what_is_wanted(study: optuna.Study) -> control.Wanted:
    found = wanted(study)
    print(f"wanted {found}", flush=True)
    return found


wanted = control.wanted
control.wanted = tell_what_is_wanted
control.POLL_SECONDS = 0.5


@dataclass
class HeldRunner:
    """The fake runner, whose trials end when ``may_end`` says so."""

    layout: ModelLayout
    may_end: Callable[[], bool]
    fails: bool
    deaf: bool

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        print(f"ran {plan.digest}", flush=True)
        while not self.may_end():
            if not self.deaf and trial.should_stop():
                raise TrialInterrupted("stopped at the gate")
            time.sleep(0.01)
        if self.fails:
            raise TrialFailed("no measurement today")
        return FakeRunner(self.layout).run(plan, trial)


def passes(gate: Path | None) -> bool:
    """Whether there is no gate, it is open, or a file of it could be taken that no other process has."""
    if gate is None or (gate / "open").exists():
        return True
    for path in gate.iterdir():
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        return True
    return False


def work(url: str, words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--gate", type=Path)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--fail", action="store_true")
    options, _ = parser.parse_known_args(words)  # a launcher may add a device
    if options.deaf:
        time_limit.GRACE_SECONDS = 1  # until it is taken for hanging
    study = load_study(options.name, url)
    runner = HeldRunner(study.layout, lambda: passes(options.gate), options.fail, options.deaf)
    worker = Worker(study, runner, max_trials=1 if options.fail else None)
    with stop_on_signals(worker):
        worker.run()


def main() -> None:
    action, url, *words = sys.argv[1:]
    if action == "run":
        work(os.environ["JOINTSEARCH_STORAGE"], [url, *words])
        return
    print("ready", flush=True)
    sys.stdin.readline()  # all processes begin at the same moment
    if action == "open":
        print(f"studies {len(study_names(open_storage(url, create=True)))}")
    elif action == "proxy":
        sys.argv = ["jointsearch", "storage", "proxy", "--storage", url, "--port", words[0]]
        jointsearch()
    elif action == "create":
        config = read_study(FIXTURES / "study.yaml").model_copy(update={"name": words[0]})
        layout = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
        opened = open_storage(url, create=True)
        with creation_lock(url):
            study = find_study(opened, words[0]) or create_study(opened, config, layout)
        print(f"trials {len(study.records().trials)}")
    else:
        work(url, words)


main()
