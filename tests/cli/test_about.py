"""`help` and `version`."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from click.testing import CliRunner

from jointsearch.cli import cli


@pytest.mark.parametrize("command", [(), ("front",), ("study",), ("study", "start"), ("help",)], ids=" ".join)
def test_help_shows_what_the_option_shows(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, ["help", *command], prog_name="jointsearch")
    expected = CliRunner().invoke(cli, [*command, "--help"], prog_name="jointsearch")
    assert shown.exit_code == 0
    assert shown.stdout == expected.stdout


@pytest.mark.parametrize("word", ["version", "-V", "--version"])
def test_the_version_is_that_of_the_package(word: str) -> None:
    shown = CliRunner().invoke(cli, [word], prog_name="jointsearch").stdout
    assert shown.split()[-1] == version("jointsearch")
