"""A worker that really runs out of memory: the trial fails with the reason, and the next one runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, sys
from pathlib import Path
from jointsearch.config import load_study
from jointsearch.runner import Budget
from jointsearch.study.storage import open_storage
from jointsearch.study.studies import create_study
from jointsearch.study.worker import Worker
from jointsearch.training.architecture import read_layout
from jointsearch.training.calibration import CalibrationRunner

file, folder = sys.argv[1:]
config = load_study(Path(file))
search = config.search.model_copy(update={"trials": 2})
config = config.model_copy(update={"search": search})
layout = read_layout(config.model, config.task.type)
study = create_study(open_storage(f"sqlite:///{folder}/studies.db", create=True), config, layout)


class Limited:
    def __init__(self):
        self.runner = CalibrationRunner(config, layout)
        self.num_runs = 0

    def run(self, plan, budget):
        self.num_runs += 1
        settings = self.runner._config.calibration
        batch_size = 20_000 if self.num_runs == 1 else config.calibration.batch_size
        self.runner._config = config.model_copy(
            update={"calibration": settings.model_copy(update={"batch_size": batch_size})}
        )
        return self.runner.run(plan, budget)


study.request(study.space.plan(study.space.uniform(8, 2)))
runner = Limited()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
Worker(study, runner).run()
for trial in study.records().trials:
    print(trial.state.name, trial.failure)
"""


def test_a_trial_that_does_not_fit_fails_and_the_next_one_runs(study_file: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(study_file), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    finished = [line for line in done.stdout.splitlines() if not line.startswith("WAITING")]
    assert [line.split()[0] for line in finished] == ["COMPLETE", "COMPLETE", "FAIL"], done.stdout
    assert finished[2].startswith("FAIL out of memory: ")
