"""Files, devices, addresses and storages that cannot be had: one line, status 2, and nothing half-written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from jointsearch.cli import cli
from jointsearch.errors import UnsupportedError
from jointsearch.training.device import resolve_device

LONG = "x" * 300
Error = Callable[..., str]


@pytest.fixture
def plan(finished_url: str) -> Path:
    assert CliRunner().invoke(cli, ["export", "small", "-o", "plan.json"]).exit_code == 0
    return Path("plan.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "small", "-o", LONG],
        ["export", "small", "-o", f"{LONG}/plan.json"],
        ["plan", "show", LONG],
        ["study", "start", LONG],
        ["train", "plan.json", "-o", LONG],
        ["train", "plan.json", "-o", "out", "--study", LONG],
        ["evaluate", LONG],
        ["report", "small", "-o", f"{LONG}.html"],
        ["schema", "-o", LONG],
        ["study", "status", "small", "--storage", f"sqlite:///{LONG}.db"],
        ["study", "create", "quickstart", "--storage", f"sqlite:///{LONG}.db"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_a_name_that_is_too_long(plan: Path, error: Error, arguments: list[str]) -> None:
    assert "File name too long" in error(*arguments) or "must be" in error(*arguments)


def test_a_number_of_thousands_of_digits(plan: Path, error: Error) -> None:
    text = plan.read_text()
    plan.write_text(text.replace('"other_bytes": 640', f'"other_bytes": {"9" * 5000}'))
    assert plan.read_text() != text
    assert "plan.json: damaged, not valid JSON: Exceeds the limit" in error("plan", "show", "plan.json")


@pytest.mark.parametrize("name", ["tpu", "xpu", "meta", "cuda:x", "cuda:99999999999", "", "cpu\n"])
def test_a_device_that_is_none(name: str) -> None:
    with pytest.raises(UnsupportedError, match="the device must be"):
        resolve_device(name)


@pytest.mark.parametrize("host", ["999.9.9.9", "no such host", "a" * 300])
def test_an_address_that_is_none(error: Error, host: str) -> None:
    assert "--host and --port must be free" in error("dashboard", "--host", host, "--port", "49151")


@pytest.mark.parametrize("arguments", [["select", "small", "--trial", "0"], ["study", "pause", "small"]])
def test_a_database_for_reading_only(finished_url: str, error: Error, arguments: list[str]) -> None:
    path = Path(finished_url.removeprefix("sqlite:///")).absolute()
    line = error(*arguments, "--storage", f"sqlite:///file:{path}?mode=ro&uri=true")
    assert "readonly database" in line


def test_a_damaged_page(finished_url: str, error: Error) -> None:
    path = Path(finished_url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = database.execute("PRAGMA page_size").fetchone()[0]
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE type='table' AND name='trial_user_attributes'"
        ).fetchone()
    database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))
    assert "the storage must be there, readable and writable, but " in error("front", "small")
