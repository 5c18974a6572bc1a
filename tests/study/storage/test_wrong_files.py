"""SQLite files that go away, and databases of other versions of Optuna."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from optuna.storages import RDBStorage
from optuna.storages._rdb.storage import _VersionManager

from jointsearch.cli import cli
from jointsearch.errors import StorageError
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.storage.schema import revisions
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]

COMMANDS = (
    ["study", "list"],
    ["study", "status", "small"],
    ["study", "delete", "small", "--yes"],
    ["study", "stop", "small"],
    ["front", "small"],
    ["worker", "small"],
    ["storage", "proxy"],
)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_worker_whose_storage_was_removed_says_so(
    create: Create, layout: ModelLayout, tmp_path: Path, replaced: bool
) -> None:
    path = tmp_path / "studies.db"

    class Runner:
        def run(self, plan: Plan, trial: Trial) -> Measurement:
            for file in tmp_path.glob("studies.db*"):
                file.rename(tmp_path / f"away-{file.name}")
            if replaced:
                path.touch()
            return FakeRunner(layout).run(plan, trial)

    with pytest.raises(StorageError, match=r"studies.db must stay where it is .* removed or replaced"):
        Worker(create(), Runner()).run()
    assert path.exists() == replaced
    assert not replaced or path.stat().st_size == 0


@pytest.fixture
def of_version(create: Create, storage: RDBStorage, tmp_path: Path) -> Callable[[str, str], None]:
    """Make the database one of another version: its revision, and its Optuna."""
    create()
    storage.engine.dispose()

    def change(revision: str, library: str) -> None:
        connection = sqlite3.connect(tmp_path / "studies.db")
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
            connection.execute("UPDATE version_info SET library_version = ?", [library])
        connection.close()
        (tmp_path / "studies.db.lock").unlink(missing_ok=True)

    return change


@pytest.mark.parametrize(
    ("revision", "library", "fix"),
    [
        ("v2.6.0.a", "2.10.1", "optuna storage upgrade --storage"),
        ("v9.0.0.a", "9.1.0", "install that one or a newer one"),
    ],
)
def test_tables_of_another_optuna_get_one_message_everywhere(
    of_version: Callable[[str, str], None], url: str, tmp_path: Path, revision: str, library: str, fix: str
) -> None:
    of_version(revision, library)
    messages = set()
    for command in COMMANDS:
        done = CliRunner().invoke(cli, [*command, "--storage", url])
        assert isinstance(done.exception, StorageError), command
        messages.add(str(done.exception))
    for create in (True, False):
        with pytest.raises(StorageError) as caught:
            open_storage(url, create=create)
        messages.add(str(caught.value))
    (message,) = messages
    assert f"but Optuna {library} has made them" in message
    assert fix in message
    assert not (tmp_path / "studies.db.lock").exists()


def test_a_file_that_is_no_database_gets_no_lock_file(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    for create in (True, False):
        with pytest.raises(StorageError, match="not a database"):
            open_storage(f"sqlite:///{tmp_path}/text.db", create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


def test_the_newest_revision_is_the_one_that_optuna_writes(storage: RDBStorage) -> None:
    versions = _VersionManager(storage.url, storage.engine, storage.scoped_session)
    assert list(reversed(revisions())) == versions.get_all_versions()
    assert versions.get_current_version() == revisions()[-1]
