"""``jointsearch demo``: the whole way on the embedded study, each command shown before it runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from jointsearch.cli.telling import tell
from jointsearch.errors import OutputError


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where all of it goes; empty or new.  [default: a temporary folder]",
)
@click.option("--trials", type=click.IntRange(min=1), help="Of the search, instead of the study's 24.")
def demo(folder: Path | None, trials: int | None) -> None:
    """Run the embedded study, from the search to a full run.

    It shows each command before it runs it: study start, front, export, plan show, train, evaluate. It
    needs no network, writes into one folder alone, and names it at the end.

    \b
    Example:
      jointsearch demo
      jointsearch demo --folder try-it --trials 12
    """
    folder = _empty(folder)
    less = [] if trials is None else ["--trials", str(trials)]
    commands = (
        ["study", "start", "quickstart", *less],
        ["front", "quickstart"],
        ["export", "quickstart", "-o", "plan.json"],
        ["plan", "show", "plan.json"],
        ["train", "plan.json", "-o", "runs/final"],
        ["evaluate", "runs/final"],
    )
    for words in commands:
        click.secho(f"\n$ jointsearch {shlex.join(words)}", bold=True)
        status = _run(words, folder)
        if status != 0:
            tell(f"The demo has ended early; what there is of it is in {folder}")
            sys.exit(status)
    click.echo(f"\nEverything is in {folder}")


def _empty(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="jointsearch-demo."))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError(f"{folder}: must be empty or new, but there is something in it")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from None
    return folder.resolve()


def _run(words: list[str], folder: Path) -> int:
    """A process for each, as a person would have it, with the storage in the folder; its exit status."""
    environment = {name: value for name, value in os.environ.items() if name != "JOINTSEARCH_STORAGE"}
    command = [sys.executable, "-m", "jointsearch", *words]
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C has reached the command, too, which ends in its own way
