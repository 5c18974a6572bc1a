"""Commands are imported when they are called, and the lists of them say what their own help says."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from jointsearch.cli import cli
from jointsearch.cli.lazy_group import LazyGroup

LIGHT = {"jointsearch", "jointsearch.cli", "jointsearch.cli.commands", "jointsearch.cli.lazy_group"}


def groups(group: click.Command = cli, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(group, click.Group):
        return []
    return [
        path,
        *(inside for name in group.commands for inside in groups(group.commands[name], (*path, name))),
    ]


def at(path: tuple[str, ...]) -> LazyGroup:
    found: click.Command = cli
    for name in path:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    assert isinstance(found, LazyGroup)
    return found


ROWS = [(path, name) for path in groups() for name in at(path).commands]


@pytest.mark.parametrize(("path", "name"), ROWS, ids=lambda part: part if isinstance(part, str) else None)
def test_a_summary_is_the_first_line_of_the_commands_own_help(path: tuple[str, ...], name: str) -> None:
    command = at(path).commands[name]
    assert command.help is not None
    first, after = command.help.splitlines()[:2]
    assert (f"{at(path).summaries[name]}.", after) == (first, "")
    assert command.name == name


@pytest.mark.parametrize("path", groups(), ids=" ".join)
def test_no_summary_is_cut_or_folded_at_80_columns(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": "80"}, terminal_width=80).stdout
    lines = [line.split(None, 1) for line in shown.partition("Commands:\n")[2].splitlines()]
    assert lines == [[name, at(path).summaries[name]] for name in at(path).commands]


def loaded_by(*arguments: str) -> set[str]:
    """Modules that are there when the command line has shown what it shows, and ends."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = ['jointsearch', *{list(arguments)!r}]\n"
        "from jointsearch.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("study", "--help"), ("help",), ("version",)], ids=" ".join
)
def test_lists_of_commands_import_none_of_them(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert {name for name in loaded if name.startswith("jointsearch.cli")} - LIGHT <= {
        "jointsearch.cli.about"
    }
    assert loaded.isdisjoint({"pydantic", "optuna", "sqlalchemy", "rich", "numpy", "torch"})


def cpu_seconds(*arguments: str) -> float:
    """Of a Python process, the least of five."""
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def test_the_list_of_commands_costs_little_more_than_pydantic_alone() -> None:
    """0.25 s on a machine where Python with pydantic takes 0.15."""
    limit = cpu_seconds("-c", "import pydantic") * 0.25 / 0.15
    assert cpu_seconds("-c", "import jointsearch") <= limit
    assert cpu_seconds("-m", "jointsearch", "--help") <= limit


def test_the_help_of_a_command_imports_it_alone() -> None:
    loaded = loaded_by("plan", "show", "--help")
    assert "jointsearch.cli.plan" in loaded
    assert loaded.isdisjoint({"jointsearch.cli.front", "optuna", "sqlalchemy", "torch"})


def test_a_front_is_shown_without_scipy() -> None:
    assert loaded_by("front", "--help").isdisjoint({"scipy", "torch", "transformers"})


def test_a_command_can_be_added_to_a_group() -> None:
    @click.command()
    def mine() -> None:
        """Do what I want."""

    group = LazyGroup("all", table=[])
    group.add_command(mine)
    shown = CliRunner().invoke(group, ["--help"]).stdout
    assert [line.split(None, 1) for line in shown.partition("Commands:\n")[2].splitlines()] == [
        ["mine", "Do what I want."]
    ]
    assert CliRunner().invoke(group, ["mine"]).exit_code == 0
