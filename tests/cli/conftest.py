"""A finished study that commands are run on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli, main
from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, open_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

FIXTURES = Path(__file__).parents[1] / "fixtures"
STUDY_FILE = FIXTURES / "study.yaml"
LAYOUT = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
Run = Callable[..., Result]
Error = Callable[..., str]


class FailsThird:
    """The fake runner, but the third plan is too much for it."""

    def __init__(self) -> None:
        self._runs = 0

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        self._runs += 1
        if self._runs == 3:
            raise TrialFailed("out of memory [red]on a small device[/red]")
        return FakeRunner(LAYOUT).run(plan, trial)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a finished study 'small', a study 'empty' without trials, and a foreign one."""
    path = tmp_path_factory.mktemp("storage") / "studies.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    config = read_study(STUDY_FILE)
    Worker(create_study(storage, config, LAYOUT), FailsThird()).run()
    create_study(
        storage, StudyConfig.model_validate({**config.model_dump(mode="json"), "name": "empty"}), LAYOUT
    )
    optuna.create_study(study_name="foreign", storage=storage)
    storage.engine.dispose()
    return path


@pytest.fixture
def finished_url(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the database, which is the default storage, and a working directory of its own."""
    copy = f"sqlite:///{shutil.copy(finished, tmp_path / 'studies.db')}"
    monkeypatch.setenv("JOINTSEARCH_STORAGE", copy)
    monkeypatch.chdir(tmp_path)
    return copy


@pytest.fixture
def small(finished_url: str) -> Iterator[StoredStudy]:
    storage = open_storage(finished_url)
    yield open_study(storage, "small")
    storage.engine.dispose()


@pytest.fixture
def records(small: StoredStudy) -> StudyRecords:
    return small.records()


@pytest.fixture
def run(finished_url: str) -> Run:
    """Runs a command that must succeed."""

    def invoke(*arguments: str, **options: Any) -> Result:
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False, **options)
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def error(finished_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Error:
    """The line that a command ends with; the working directory has nothing more than before."""

    def of(*arguments: str) -> str:
        before = sorted(Path.cwd().iterdir())
        monkeypatch.setattr(sys, "argv", ["jointsearch", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        assert caught.value.code == 2, printed
        assert printed.out == ""
        assert printed.err.startswith("Error: ") and printed.err.count("\n") == 1, printed.err
        assert [path for path in sorted(Path.cwd().iterdir()) if "studies.db" not in path.name] == [
            path for path in before if "studies.db" not in path.name
        ]
        return printed.err

    return of
