"""``jointsearch completion``: the script that lets a shell complete commands, names and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_JOINTSEARCH_COMPLETE"
"""What the script sets to ask for completions; click has this name from that of the program."""

COLONS = """
# A colon is part of a word, as in cuda:1 and quickstart:17.
COMP_WORDBREAKS=${COMP_WORDBREAKS//:}
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes with Tab.

    It completes commands, options, names of studies, study files and plans, devices and strategies. In the
    start-up file of your SHELL, such as ~/.bashrc or ~/.zshrc, put one of these lines:

    \b
      eval "$(jointsearch completion bash)"
      eval "$(jointsearch completion zsh)"
      jointsearch completion fish | source

    \b
    Example:
      jointsearch completion bash
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "jointsearch", VARIABLE).source(), nl=False)
    if shell == "bash":
        click.echo(COLONS, nl=False)
