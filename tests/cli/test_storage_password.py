"""The storage's password from a file, for containers: what `--storage` then is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click
import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from jointsearch.cli.options import storage_option
from jointsearch.errors import StorageError

PASSWORD = "p@ss:w/rd %41?"


@click.command()
@storage_option
def show(storage_url: str) -> None:
    click.echo(storage_url)


def shown(url: str, path: Path) -> str:
    environment = {"JOINTSEARCH_STORAGE": url, "JOINTSEARCH_STORAGE_PASSWORD_FILE": str(path)}
    return CliRunner().invoke(show, env=environment, catch_exceptions=False).stdout.strip()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def test_it_completes_a_url_that_has_a_user_alone(secret: Path) -> None:
    url = shown("postgresql://me@host:5433/studies?connect_timeout=5", secret)
    quoted = quote(PASSWORD, safe=" ")
    assert url == f"postgresql://me:{quoted}@host:5433/studies?connect_timeout=5"
    assert make_url(url).password == PASSWORD


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:mine@host/studies",
        "postgresql://host/studies",
        "sqlite:///studies.db",
        "grpc://host:13000",
        "no URL",
    ],
)
def test_it_leaves_others_alone(url: str, secret: Path) -> None:
    assert shown(url, secret) == url


def test_without_the_variable_nothing_is_read() -> None:
    found = CliRunner().invoke(show, ["--storage", "postgresql://me@host/studies"])
    assert found.stdout == "postgresql://me@host/studies\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff", "not text")],
)
def test_a_file_that_has_none_is_an_error(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=f"JOINTSEARCH_STORAGE_PASSWORD_FILE must name .*{reason}"):
        shown("postgresql://me@host/studies", path)
