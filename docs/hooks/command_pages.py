"""Every command with its options, from click's own objects: what ``--help`` says, as Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
from markdown_table import code, table

from jointsearch.cli import PROGRAM, cli


def all_commands() -> str:
    """A section for each command; those of a group are below it."""
    return "\n\n".join(_section(context) for context in commands() if context.parent is not None)


def commands(context: click.Context | None = None) -> Iterator[click.Context]:
    """A context for every command, groups before what is in them."""
    # with its settings: click keeps the help option that a command has under its first context
    context = context or click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=context))


def _section(context: click.Context) -> str:
    words = context.command_path.split()[1:]
    text, example = _parts(context.command)
    usage = [context.command_path, *context.command.collect_usage_pieces(context)]
    parts = [f"{'#' * (len(words) + 1)} {' '.join(words)}", text, f"```\n{' '.join(usage)}\n```"]
    if options := [
        (code(found[0]), found[1])
        for parameter in context.command.get_params(context)
        if (found := parameter.get_help_record(context)) and found[1] and "--help" not in parameter.opts
    ]:
        parts.append(table(["option", "what it does"], options))
    if example:
        parts.append(f"```\n{example}\n```")
    return "\n\n".join(parts)


def _parts(command: click.Command) -> tuple[str, str]:
    """The text of a command's help, and its example."""
    text, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if "\b" not in paragraph]
    blocks = [paragraph for paragraph in text.split("\n\n") if "\b" in paragraph]
    shown = [f"```\n{inspect.cleandoc(block.replace(chr(8), '')).strip()}\n```" for block in blocks]
    return "\n\n".join([*paragraphs, *shown]).strip(), inspect.cleandoc(example).strip()
