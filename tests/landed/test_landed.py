"""What version 0.1.0 has written is read and gone on with: three studies, a plan and a full run.

The studies: `landed` is finished, with a comparison, a refinement, a selection and its full run; `half` is
not, with a probe and a trial that failed; `genetic` is not, and its sampler has generations. `expected`
holds what the commands of 0.1.0 said of them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from jointsearch.plan.plan_file import read_plan, write_plan
from jointsearch.search.attributes import stored_probe
from jointsearch.study.attributes import RETRY_OF
from jointsearch.study.full_runs import full_runs
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import open_study

HERE = Path(__file__).parent
VERDICT = ("compared_to", "gain", "confidence", "significant")
"""0.1.0 compared with the best uniform plan of no more bytes, for which it took every plan with a label."""
TEXTS = ("*.json", "*.sql", "*.yaml")

Command = Callable[..., Any]
Open = Callable[[str], StoredStudy]
Say = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy where the files name it, which is the working directory and has the default storage."""
    copy = tmp_path / "landed"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for pattern in TEXTS:
        for path in copy.rglob(pattern):
            path.write_text(path.read_text().replace("@FOLDER@", str(copy)))
    database = sqlite3.connect(copy / "jointsearch.db")
    database.executescript((copy / "studies.sql").read_text())
    database.close()
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    storages = []

    def opened(name: str) -> StoredStudy:
        storages.append(open_storage(f"sqlite:///{folder}/jointsearch.db"))
        return open_study(storages[-1], name)

    yield opened
    for storage in storages:
        storage.engine.dispose()


@pytest.fixture
def say(command: Command, folder: Path) -> Say:
    """What a command says now, and what it said."""

    def said(expected: str, *arguments: str) -> tuple[Any, Any]:
        now = json.loads(command(*arguments, "--format", "json").stdout)
        return now, json.loads((folder / "expected" / f"{expected}.json").read_text())

    return said


def check_same(now: Any, then: Any, *, but: tuple[str, ...] = (), where: str = "") -> None:
    """All that was said is said today, whatever is said beside it."""
    if isinstance(then, dict):
        for name in then.keys() - set(but):
            assert name in now, f"{where}.{name}"
            check_same(now[name], then[name], but=but, where=f"{where}.{name}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for position, (one, other) in enumerate(zip(now, then, strict=True)):
            check_same(one, other, but=but, where=f"{where}[{position}]")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=1e-9), where
    else:
        assert now == then, where


@pytest.mark.parametrize("name", ["half", "genetic"])
def test_the_front_is_what_it_was(say: Say, name: str) -> None:
    check_same(*say(f"front-{name}", "front", name), but=VERDICT)


def test_the_front_of_a_compared_study_has_the_same_numbers(say: Say) -> None:
    """0.1.0 gave what the search had measured the name of a strategy that proposed it again."""
    check_same(*say("front-landed", "front", "landed"), but=("label", *VERDICT))


@pytest.mark.parametrize("name", ["landed", "half", "genetic"])
def test_the_status_is_what_it_was(say: Say, name: str) -> None:
    but = ("best", "hypervolume") if name == "landed" else ("hypervolume",)
    check_same(*say(f"status-{name}", "study", "status", name), but=but)


def test_the_plan_is_what_it_was(say: Say, folder: Path) -> None:
    check_same(*say("plan", "plan", "show", "plan.json"))
    plan = read_plan(folder / "plan.json")
    assert plan.cost.model_bytes == json.loads((folder / "run" / "metrics.json").read_text())["model_bytes"]
    write_plan(plan, folder / "again.json")
    check_same(*(json.loads((folder / name).read_text()) for name in ("again.json", "plan.json")))


@pytest.mark.parametrize("name", [pytest.param("half", marks=pytest.mark.slow), "genetic"])
def test_an_unfinished_study_is_finished(command: Command, opened: Open, name: str) -> None:
    """From its study file; what was measured is not measured again, and nor is its probe."""
    study = opened(name)
    before, probe = study.records(), stored_probe(study.optuna_study)
    assert (probe is not None) == (name == "half")
    command("study", "start", f"{name}.yaml")
    again = opened(name)
    after = again.records()
    assert len(after.trials) == after.num_finished == 22  # some of them stopped early
    assert [trial.frozen.values for trial in before.complete] == [
        after.trials[trial.number].frozen.values for trial in before.complete
    ]
    stored = {trial.digest for trial in before.complete}
    measured = [trial.digest for trial in after.trials[len(before.trials) :] if trial.copy_of is None]
    assert measured
    assert not stored & set(measured)
    assert len(measured) == len(set(measured))
    assert stored_probe(again.optuna_study) == probe


def test_a_failed_trial_is_tried_again(command: Command, opened: Open) -> None:
    """It has failed before it had a plan: the sampler proposes one now."""
    (failed,) = opened("half").records().failed
    assert failed.failure == "diverged: the training loss is inf"
    command("study", "retry", "half")
    command("worker", "half", "--max-trials", "1")
    records = opened("half").records()
    assert (records.failed, records.waiting) == ((), ())
    again = records.trials[-1]
    assert (again.number, again.frozen.user_attrs[RETRY_OF]) == (14, failed.number)
    assert again.state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert again.plan.digest not in {trial.digest for trial in records.complete if trial is not again}


def test_the_full_run_is_evaluated(command: Command, folder: Path) -> None:
    now = json.loads(command("evaluate", "run", "--split", "validation", "--format", "json").stdout)
    then = json.loads((folder / "run" / "metrics.json").read_text())
    assert now["loss"] == pytest.approx(then["validation"]["loss"], abs=1e-4)
    assert now["model_bytes"] == then["model_bytes"]


def test_a_full_run_is_stored_with_its_selection(opened: Open, folder: Path) -> None:
    ((number, run),) = full_runs(opened("landed").optuna_study.user_attrs).items()
    assert (number, run.state.value, run.selection.note) == (21, "complete", "the best small one")
    assert run.measurement is not None
    then = json.loads((folder / "run" / "metrics.json").read_text())
    assert run.measurement.metrics == then["validation"]
