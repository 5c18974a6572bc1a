"""A worker that really runs out of memory: the trial fails with the reason, and the next one runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, sys
from pathlib import Path
from jointsearch.config.yaml_file import read_study
from jointsearch.runner import Trial
from jointsearch.study.queue import request
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.calibration import CalibrationRunner

file, folder = sys.argv[1:]
config = read_study(Path(file))
config = config.model_copy(update={"search": config.search.model_copy(update={"trials": 1})})
huge = config.calibration.model_copy(update={"batch_size": 20_000})
layout = read_layout(config.model, config.task.type)
study = create_study(open_storage(f"sqlite:///{folder}/studies.db", create=True), config, layout)
request(study, study.space.plan(study.space.uniform("int8", 2)))


class FirstIsHuge:
    def __init__(self):
        self.runners = [CalibrationRunner(config, layout), CalibrationRunner(
            config.model_copy(update={"calibration": huge}), layout
        )]

    def run(self, plan, trial):
        return self.runners.pop().run(plan, trial)


worker = Worker(study, FirstIsHuge())
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
worker.run()
for trial in study.records().trials:
    print(trial.state.name, trial.failure)
"""


def test_a_trial_that_does_not_fit_fails_and_the_next_one_runs(study_file: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(study_file), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    finished = [line for line in done.stdout.splitlines() if not line.startswith("WAITING")]
    assert [line.split()[0] for line in finished] == ["COMPLETE", "FAIL"], done.stdout
    assert finished[1].startswith("FAIL out of memory: "), done.stdout
