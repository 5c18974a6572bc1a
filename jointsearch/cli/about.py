"""``jointsearch help`` and ``version``."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from jointsearch import __version__


def _complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    found: click.Command = ctx.find_root().command
    for name in ctx.params.get("command") or ():
        if not isinstance(found, click.Group) or name not in found.commands:
            return []
        found = found.commands[name]
    return found.shell_complete(ctx, incomplete) if isinstance(found, click.Group) else []


@click.command("help")
@click.argument("command", nargs=-1, shell_complete=_complete)
@click.pass_context
def help_command(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of a command.

    \b
    Example:
      jointsearch help
      jointsearch help study start
    """
    shown = ctx.find_root()
    for name in command:
        group = shown.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"'{shown.command_path}' has no commands, but got '{name}'", shown)
        found = group.get_command(shown, name)
        if found is None:
            raise click.exceptions.NoSuchCommand(name, possibilities=group.commands, ctx=shown)
        shown = click.Context(found, info_name=name, parent=shown)
    click.echo(shown.get_help())


@click.command()
def version() -> None:
    """Show the version.

    \b
    Example:
      jointsearch version
    """
    click.echo(__version__)
