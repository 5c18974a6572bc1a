"""A database and a plan that somebody has written who means ill: they run no code and command no terminal."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attacks.bad.case import ESCAPES, Place, places, replaced
from attacks.bad.plans import resign
from attacks.test_bad_inputs import LAYOUT, good_plan
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import plan_text
from jointsearch.runner import Trial
from jointsearch.study.full_runs import select_trial
from jointsearch.study.storage.heartbeats import record_heartbeat
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import create_study
from jointsearch.study.worker.full_runs import FullRunWorker
from jointsearch.study.worker.queue import TrialQueue
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parents[1] / "fixtures"

Command = Callable[..., Any]


class Touch:
    """What unpickling would make a file of."""

    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


CODE = (
    "!!python/object/apply:os.system ['touch owned']",
    "__import__('os').system('touch owned')",
    "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
    "{0.__class__.__init__.__globals__}",
    "$(touch owned)`touch owned`;touch owned",
    "'; DROP TABLE trials; --",
    "../../owned",
    base64.b64encode(pickle.dumps(Touch())).decode(),
)

READERS = (
    ("study", "status", "small"),
    ("study", "status", "small", "--format", "json"),
    ("study", "list"),
    ("front", "small"),
    ("front", "small", "--format", "csv"),
    ("select", "small", "--trial", "0"),
    ("compare-outputs", "small:0", "small:1"),
    ("export", "small", "-o", "out.json"),
    ("export", "small", "--to", "peft", "-o", "peft.json"),
    ("study", "delete", "small", "--yes"),
    ("study", "delete", "small", "--yes", "--force"),
)


class FailsOnce(FakeRunner):
    """The third trial fails."""

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        if trial.number == 2:
            raise TrialFailed("as planned")
        return super().run(plan, trial)


def make_database(folder: Path) -> None:
    """A study with something of every kind: failures, a running trial, a selection, a note, a full run."""
    storage = open_storage(f"sqlite:///{folder}/studies.db", create=True)
    config = read_study(FIXTURES / "study.yaml").with_trials(7)
    study = create_study(storage, config, LAYOUT)
    Worker(study, FailsOnce(LAYOUT), max_trials=6).run()
    queue = TrialQueue(study, num_trials=7)
    trial = queue.take(study.records())
    assert trial is not None
    queue.claim(trial, queue.plan_of(trial))
    record_heartbeat(trial, 0)
    select_trial(study.optuna_study, 0, "for the phone")

    def train(*_: Any, **__: Any) -> Measurement:
        return FakeRunner(LAYOUT).run(study.records().trials[0].plan, Trial())

    FullRunWorker(study, train, folder / "runs", max_runs=1).run()
    storage.engine.dispose()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malice")
    make_database(folder)
    return folder / "studies.db"


def stored(database: Path) -> Iterator[tuple[str, int, str, Any]]:
    """Table, row, key and value of every attribute of the study, and of its first trials."""
    connection = sqlite3.connect(database)
    for table, owner in (("study_user_attributes", "study_id"), ("trial_user_attributes", "trial_id")):
        number = f"{table[:5]}_user_attribute_id"
        query = f"SELECT {number}, key, value_json FROM {table} WHERE {owner} IN (1, 3, 7)"
        for row, key, text in connection.execute(query):
            yield table, row, key, json.loads(text)
    connection.close()


def texts(value: Any) -> Iterator[tuple[Place, str]]:
    """Every text in an attribute, and where it is."""
    if isinstance(value, str):
        yield (), value
    yield from ((place, inner) for place, inner in places(value) if isinstance(inner, str))


def change(folder: Path, table: str, row: int, value: Any) -> None:
    connection = sqlite3.connect(folder / "studies.db")
    with connection:
        connection.execute(
            f"UPDATE {table} SET value_json = ? WHERE {table[:5]}_user_attribute_id = ?",
            [json.dumps(value), row],
        )
    connection.close()


def read_all(command: Command, folder: Path, readers: tuple[tuple[str, ...], ...] = READERS) -> None:
    """Each command shows what it can or refuses in a line; no terminal is commanded, no code runs."""
    for words in readers:
        said = command(*words, folder=folder, status=(0, 2))
        for printed in (said.stdout, said.stderr):
            assert printed.replace("\n", "").replace("\r\n", "").isprintable(), (words, printed)
        (folder / "out.json").unlink(missing_ok=True)
        (folder / "peft.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "peft.json", ignore_errors=True)
    assert not list(folder.parents[1].rglob("*owned*"))


@pytest.fixture
def folder(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "a" / "b" / "here"
    made.mkdir(parents=True)
    shutil.copy(database, made / "studies.db")
    (made / "plan.json").write_text(plan_text(good_plan()))
    monkeypatch.setenv("JOINTSEARCH_STORAGE", "sqlite:///studies.db")
    return made


def test_every_text_of_a_database(database: Path, folder: Path, command: Command) -> None:
    count = 0
    for table, row, _key, value in list(stored(database)):
        for place, text in texts(value):
            shutil.copy(database, folder / "studies.db")
            change(folder, table, row, replaced(value, place, text + ESCAPES))
            read_all(command, folder)
            count += 1
    print(f"{count} texts, {len(READERS)} commands each")
    assert count > 50


@pytest.mark.parametrize("payload", CODE, ids=range(len(CODE)))
def test_code_in_a_database(database: Path, folder: Path, command: Command, payload: str) -> None:
    """In every text at once that a reader does not need to be as it is."""
    free = (
        "description",
        "note",
        "worker",
        "failure",
        "device",
        "input",
        "output",
        "reference",
        "folder",
        "left_out",
    )
    for table, row, key, value in list(stored(database)):
        for place, _ in texts(value):
            if key != "config" and {key, *place} & set(free):
                value = replaced(value, place, payload)
        change(folder, table, row, value)
    read_all(command, folder)
    assert command("study", "status", "small", folder=folder, status=2).stderr.startswith(
        "Error: there is no"
    )


@pytest.mark.parametrize(
    "name", [f"a{ESCAPES}", "../../owned", "/../owned", "$(touch owned)", "'; DROP TABLE trials"]
)
def test_names_of_studies(folder: Path, command: Command, name: str) -> None:
    connection = sqlite3.connect(folder / "studies.db")
    with connection:
        connection.execute("UPDATE studies SET study_name = ?", [name])
    connection.close()
    read_all(command, folder, tuple(tuple(name if w == "small" else w for w in words) for words in READERS))


def test_every_text_of_a_plan(folder: Path, command: Command) -> None:
    content = good_plan().model_dump(mode="json")
    readers = (("plan", "show", "plan.json"), ("plan", "show", "plan.json", "--format", "json"))
    for place, text in list(texts(content)):
        for payload in (text + ESCAPES, *CODE):
            (folder / "plan.json").write_text(json.dumps(content))
            resign(folder, place, payload)
            read_all(command, folder, readers)
