"""`jointsearch dashboard` up to where it listens, and who is let in then."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from werkzeug.test import Client

from jointsearch.cli import cli

Served = list[tuple[Any, dict[str, Any]]]
Error = Callable[..., str]


@pytest.fixture
def served(finished_url: str, monkeypatch: pytest.MonkeyPatch) -> Served:
    """What would be served: applications with waitress's options."""
    made: Served = []

    def create_server(application: object, **options: object) -> SimpleNamespace:
        made.append((application, options))
        return SimpleNamespace(run=lambda: None)

    monkeypatch.setattr("waitress.create_server", create_server)
    return made


def start(*words: str, **environment: str) -> str:
    result = CliRunner().invoke(cli, ["dashboard", *words], env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stderr


def status(application: Any, **headers: str) -> int:
    return Client(application).get("/api/studies", headers=headers).status_code


def test_the_address_that_is_printed_lets_in_and_no_other(served: Served) -> None:
    printed = start("--port", "8123")
    ((application, options),) = served
    assert (options["host"], options["port"]) == ("127.0.0.1", 8123)
    found = re.search(r"http://127\.0\.0\.1:8123/\?token=([\w-]{32}) ", printed)
    assert found
    assert status(application) == 401
    assert status(application, Authorization=f"Bearer {found[1]}") == 200
    assert found[1] not in start("--port", "8123")  # made anew


def test_a_token_of_ones_own_is_not_printed(served: Served) -> None:
    printed = start("--host", "0.0.0.0", JOINTSEARCH_DASHBOARD_TOKEN="known")
    ((application, _),) = served
    assert "known" not in printed and "token=" not in printed
    assert status(application) == 401
    assert status(application, Authorization="Bearer known") == 200


def test_an_empty_variable_is_no_token(served: Served) -> None:
    assert "?token=" in start(JOINTSEARCH_DASHBOARD_TOKEN="")
    assert status(served[0][0]) == 401


def test_without_a_token_only_where_it_is_said(served: Served) -> None:
    assert "token" not in start("--no-token")
    assert status(served[0][0]) == 200


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--no-token", "--host", "0.0.0.0"], "--no-token needs a --host of localhost"),
        (["--no-token", "--auth-token", "secret"], "give one"),
    ],
)
def test_what_cannot_be_meant(served: Served, error: Error, words: list[str], reason: str) -> None:
    assert reason in error("dashboard", *words)
    assert served == []
