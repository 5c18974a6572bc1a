"""Which commands there are, and how they show themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli

Run = Callable[..., Result]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        inside = (*path, name)
        found += commands(command, inside) if isinstance(command, click.Group) else [inside]
    return found


ALL_COMMANDS = commands(cli)


def test_the_commands_are_these() -> None:
    assert {" ".join(path) for path in ALL_COMMANDS} == {
        "",
        "dashboard",
        "fit",
        "report",
        "study",
        "study start",
        "study create",
        "study pause",
        "study resume",
        "study stop",
        "study cancel",
        "study retry",
        "study import",
        "bank",
        "bank list",
        "bank clear",
        "storage",
        "storage proxy",
        "worker",
        "study list",
        "study status",
        "study delete",
        "study measure",
        "study refine",
        "study finals",
        "front",
        "select",
        "export",
        "plan",
        "plan show",
        "train",
        "evaluate",
        "export-model",
        "compare",
        "compare-outputs",
        "doctor",
        "init",
        "demo",
        "completion",
        "schema",
        "help",
        "version",
    }


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="jointsearch")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(('jointsearch', *path))} ")
    example = result.stdout.partition("Example:\n")[2]
    assert example.strip().startswith(f"jointsearch {' '.join(path)}".strip())
    assert "-h, --help" in result.stdout


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from jointsearch.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})


def test_a_mistake_in_a_process_of_its_own(finished_url: str) -> None:
    done = script("front", "smal")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "Error: there is no study 'smal'; did you mean 'small'?\n"


def test_json_is_alone_on_standard_output(finished_url: str) -> None:
    done = script("front", "small", "--format", "json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(json.loads(done.stdout)) >= 4


def test_no_command_shows_the_help() -> None:
    done = script()
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr
    assert script("--version").stdout.split()[-1] == "0.1.0"
