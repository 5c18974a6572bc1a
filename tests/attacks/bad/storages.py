"""Storages and environments: addresses that are none, files that are no database, damaged databases."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from attacks.bad.case import ESCAPES, Case

URLS = (
    "",
    "x",
    "sqlite",
    "sqlite://",
    "sqlite:///",
    "sqlite:///.",
    "sqlite:////",
    "sqlite:///nowhere/studies.db",
    "sqlite:///study.yaml",
    f"sqlite:///{'x' * 300}.db",
    "sqlite:///file:studies.db?mode=ro",
    "sqlite:///file:none.db?mode=ro&uri=true",
    "sqlite:///file:studies.db?mode=no-such&uri=true",
    f"sqlite:///{ESCAPES}",
    "sqlite+pysqlcipher://:secret-word@/studies.db",
    "sqlite+no_such:///studies.db",
    "mysql://user:secret-word@localhost/db",
    "mariadb://user:secret-word@localhost/db",
    "mssql://user:secret-word@localhost/db",
    "oracle://user:secret-word@localhost/db",
    "postgresql://user:secret-word@127.0.0.1:1/db",
    "postgresql://user:secret-word@127.0.0.1:99999/db",
    "postgresql://user:secret-word@[::1/db",
    "postgresql://user:secret-word@127.0.0.1:1/db?sslmode=no-such",
    "postgresql://user:secret\nword@127.0.0.1:1/db",
    "postgresql+no_such://user:secret-word@127.0.0.1:1/db",
    "postgresql:///db?host=/nowhere",
    f"postgresql://{ESCAPES}:secret-word@127.0.0.1:1/{ESCAPES}",
    "postgres://user:secret-word@127.0.0.1:1/db",
    "http://127.0.0.1:1/",
    "file:///etc/passwd",
    "redis://127.0.0.1:1",
    "journal.log",
    "grpc://",
    "grpc://host",
    "grpc://host:port",
    "grpc://host:99999999",
    "grpc://127.0.0.1:0",
    "grpc://user:secret-word@host:1",
    "grpc://[::1",
    "x" * 100_000,
)


def _sql(*statements: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        connection = sqlite3.connect(folder / "studies.db")
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return change


def _attribute(key: str, text: str) -> Callable[[Path], None]:
    quoted = text.replace("'", "''")
    return _sql(
        f"UPDATE study_user_attributes SET value_json = '{quoted}' WHERE key = '{key}' AND study_id = 1"
    )


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "studies.db").write_bytes(content)


def _cut(folder: Path) -> None:
    path = folder / "studies.db"
    os.truncate(path, path.stat().st_size // 2)


def _garbage(folder: Path) -> None:
    content = bytearray((folder / "studies.db").read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    (folder / "studies.db").write_bytes(content)


DATABASES: dict[str, Callable[[Path], object]] = {
    "empty": _bytes(b""),
    "zeros": _bytes(bytes(8192)),
    "text": _bytes(b"no database at all " * 100),
    "header-alone": _bytes(b"SQLite format 3\x00" + bytes(84)),
    "cut": _cut,
    "garbage": _garbage,
    "folder": lambda folder: ((folder / "studies.db").unlink(), (folder / "studies.db").mkdir()),
    "pipe": lambda folder: ((folder / "studies.db").unlink(), os.mkfifo(folder / "studies.db")),
    "no-tables": lambda folder: ((folder / "studies.db").unlink(), _sql("CREATE TABLE a (b)")(folder)),
    "no-trials": _sql("DROP TABLE trials"),
    "of-tomorrow": _sql("UPDATE alembic_version SET version_num = 'v99.0.0.a'"),
    "of-escapes": _sql("UPDATE alembic_version SET version_num = char(27) || '[2J'"),
    "no-config": _sql("DELETE FROM study_user_attributes WHERE key = 'config'"),
    "config-no-json": _attribute("config", "{no json"),
    "config-list": _attribute("config", "[1, 2]"),
    "config-null": _attribute("config", "null"),
    "config-of-escapes": _attribute("config", json.dumps({ESCAPES: ESCAPES})),
    "config-deep": _attribute("config", "[" * 100_000),
    "layout-null": _attribute("layout", "null"),
    "layout-list": _attribute("layout", "[]"),
    "layout-of-escapes": _attribute("layout", json.dumps({ESCAPES: ESCAPES})),
    "no-layout": _sql("DELETE FROM study_user_attributes WHERE key = 'layout'"),
    "plan-null": _sql("UPDATE trial_user_attributes SET value_json = 'null' WHERE key = 'plan'"),
    "plan-no-json": _sql("UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'plan'"),
    "plan-list": _sql("UPDATE trial_user_attributes SET value_json = '[]' WHERE key = 'plan'"),
    "measurement-null": _sql(
        "UPDATE trial_user_attributes SET value_json = 'null' WHERE key = 'measurement'"
    ),
    "measurement-text": _sql(
        "UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE key = 'measurement'"
    ),
    "no-measurement": _sql("DELETE FROM trial_user_attributes WHERE key = 'measurement'"),
    "no-plan": _sql("DELETE FROM trial_user_attributes WHERE key = 'plan'"),
    "state-of-tomorrow": _sql("UPDATE trials SET state = 'TOMORROW'"),
    "no-values": _sql("DELETE FROM trial_values"),
}

READERS = (("front", "small"), ("export", "small", "-o", "out.json"))

PASSWORDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "empty": lambda folder: (folder / "password").touch(),
    "folder": lambda folder: (folder / "password").mkdir(),
    "binary": lambda folder: (folder / "password").write_bytes(bytes(range(256))),
}


def by_hand() -> Iterator[Case]:
    for number, url in enumerate(URLS):
        for command in (("study", "list"), ("worker", "small"), ("study", "create", "study.yaml")):
            yield Case(f"url-{number}-{url[:14]!r}-{command[0]}-{command[1]}", (*command, "--storage", url))
    for name, prepare in DATABASES.items():
        for command in READERS:
            yield Case(f"database-{name}-{command[0]}", command, prepare)
    for name, prepare in PASSWORDS.items():
        yield Case(
            f"password-{name}",
            ("study", "list", "--storage", "postgresql://user@127.0.0.1:1/db"),
            prepare,
            {"JOINTSEARCH_STORAGE_PASSWORD_FILE": "password"},
        )
    for key, value in {
        "JOINTSEARCH_STORAGE": ESCAPES,
        "JOINTSEARCH_TRUST_REMOTE_CODE": f"perhaps{ESCAPES}",
        "JOINTSEARCH_LOG_FORMAT": f"xml{ESCAPES}",
        "JOINTSEARCH_PLUGINS": f"no.such.module{ESCAPES}",
    }.items():
        yield Case(f"environment-{key}", ("worker", "small"), environment={key: value})
