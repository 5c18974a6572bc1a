"""``Study.optimize`` with worker processes, which really train."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import FrozenTrial

import jointsearch as js
from jointsearch.study.attributes import WORKER
from jointsearch.study.worker.events import worker_name

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_two_jobs_run_the_trials_of_a_study_that_a_file_describes(study_file: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    study = js.create_study(study_file, url)
    told: list[FrozenTrial] = []
    study.optimize(4, n_jobs=2, callbacks=[lambda _study, trial: told.append(trial)])

    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert [trial.number for trial in complete] == [0, 1, 2, 3]
    assert sorted(trial.number for trial in told) == [0, 1, 2, 3]
    workers = {trial.user_attrs[WORKER] for trial in complete}
    assert 1 <= len(workers) <= 2 and worker_name() not in workers
    # no worker runs a trial twice, and each is what one process measures
    assert len({trial.user_attrs["digest"] for trial in complete}) == 4
    assert study.config.search.trials == 12  # the file's, for whoever goes on
    study.optimize(1)
    alone = study.trials[4]
    assert alone.user_attrs[WORKER] == worker_name()
    assert alone.values[0] > 0
