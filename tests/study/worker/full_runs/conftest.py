"""A study with four complete trials, as several processes open it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study, open_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Reopen = Callable[[], StoredStudy]

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, layout: ModelLayout) -> Path:
    """A database with the study 'small', whose four trials are complete."""
    path = tmp_path_factory.mktemp("storage") / "studies.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    config = read_study(FIXTURES / "study.yaml")
    config = config.model_copy(update={"search": config.search.model_copy(update={"trials": 4})})
    Worker(create_study(storage, config, layout), FakeRunner(layout)).run()
    storage.engine.dispose()
    return path


@pytest.fixture
def reopen(finished: Path, url: str, tmp_path: Path) -> Iterator[Callable[[], StoredStudy]]:
    """Opens a copy of the study, as another process would."""
    shutil.copy(finished, tmp_path / "studies.db")
    opened = []

    def again() -> StoredStudy:
        opened.append(open_storage(url))
        return open_study(opened[-1], "small")

    yield again
    for storage in opened:
        storage.engine.dispose()


@pytest.fixture
def study(reopen: Reopen) -> StoredStudy:
    return reopen()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "runs"
