"""``jointsearch worker``: runs trials of a study that is stored, or trains its selected plans in full."""

from __future__ import annotations

import math
from pathlib import Path

import click

from jointsearch.cli.messages import messages
from jointsearch.cli.on_console import OnConsole
from jointsearch.cli.options import log_format_option, name_argument, storage_option, trust_option
from jointsearch.cli.suggestions import devices
from jointsearch.cli.training_progress import TrainingProgress
from jointsearch.starting import train_selected, work


@click.command()
@name_argument
@click.option("--device", shell_complete=devices, help="Instead of the study's: cpu, cuda, cuda:1, ….")
@click.option("--full-runs", is_flag=True, help="Train the selected plans in full, and run no trials.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where full runs get their folders, NAME-trial-NUMBER.  [default: runs]",
)
@click.option("--max-trials", type=click.IntRange(min=1), help="Leave after so many trials, or full runs.")
@click.option("--idle-exit", metavar="TIME", help="Leave after waiting so long for work, such as 10m.")
@click.option("--quiet", is_flag=True, help="Say nothing of trials and full runs.")
@trust_option
@log_format_option
@storage_option
def worker(
    name: str,
    device: str | None,
    full_runs: bool,
    output: Path | None,
    max_trials: int | None,
    idle_exit: str | None,
    quiet: bool,
    log_format: str,
    storage_url: str,
) -> None:
    """Run trials of a stored study, or its full runs.

    It takes trials of study NAME until there are none left, beside any number of other workers.
    Ctrl-C and SIGTERM end it after the training step; its plan goes back into the queue.

    With --full-runs it waits for plans that are selected and does with each what `train` does. An
    interrupted run leaves a checkpoint, from which the next such worker goes on.

    \b
    Example:
      jointsearch worker quickstart
      jointsearch worker quickstart --storage postgresql://host/studies --device cuda:1
      jointsearch worker quickstart --full-runs --idle-exit 10m
    """
    try:
        seconds = math.inf if idle_exit is None else parse_seconds(idle_exit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--idle-exit") from None
    console = messages(log_format)
    if full_runs:
        with TrainingProgress(console, shown=not quiet) as progress:
            train_selected(
                name,
                storage_url,
                output or Path("runs"),
                progress,
                progress.tell,
                device=device,
                max_runs=max_trials,
                idle_exit_seconds=seconds,
            )
        return
    if output is not None:
        raise click.UsageError("--output is where full runs go; give --full-runs with it")
    work(
        name,
        storage_url,
        OnConsole(console, quiet=quiet),
        device=device,
        max_trials=max_trials,
        idle_exit_seconds=seconds,
    )


def parse_seconds(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``2h`` in seconds; raises ``ValueError``."""
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "s")
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(number) * units[unit]
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    except (KeyError, ValueError):
        pass
    raise ValueError(f"a time is a number with s, m or h, but got '{text}'")
