"""A click group that knows its commands from a table, and imports one when it is called.

So ``jointsearch --help`` and Tab cost no more than click itself, and a command's module can import at
its top whatever it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class Row(NamedTuple):
    """A command in its group's table."""

    name: str
    target: str
    """Where it is: ``module:attribute``."""
    summary: str
    """The first line of its help, without the full stop."""


class LazyGroup(click.Group):
    """A group whose help lists the commands of ``table`` in that order, without importing them."""

    def __init__(self, name: str | None = None, *, table: Iterable[Row], **options: Any) -> None:
        rows = tuple(table)
        super().__init__(name, commands=_Commands(rows), **options)
        self.summaries = {row.name: row.summary for row in rows}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary(name)) for name in self.commands])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.commands if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._summary(name)) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def _summary(self, name: str) -> str:
        """A command that was added later, by ``add_command``, is there already and can be asked."""
        return self.summaries.get(name) or self.commands[name].get_short_help_str(limit=200)


class _Commands(MutableMapping[str, click.Command]):
    """Commands by name, imported when they are asked for; click itself looks them up here."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._found: dict[str, str | click.Command] = {row.name: row.target for row in rows}

    def __getitem__(self, name: str) -> click.Command:
        found = self._found[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self._found[name] = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
