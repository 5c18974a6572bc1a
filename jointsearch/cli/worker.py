"""``jointsearch worker``: runs trials of a study that is stored."""

from __future__ import annotations

import math

import click

from jointsearch.cli.common import log_format_option, messages, storage_option


@click.command()
@click.argument("name")
@click.option("--device", help="Instead of the study's: cpu, cuda, cuda:1, ….")
@click.option("--max-trials", type=click.IntRange(min=1), help="Leave after so many trials.")
@click.option("--idle-exit", metavar="TIME", help="Leave after waiting so long for a trial, such as 10m.")
@click.option("--quiet", is_flag=True, help="Say nothing of the trials.")
@log_format_option
@storage_option
def worker(
    name: str,
    device: str | None,
    max_trials: int | None,
    idle_exit: str | None,
    quiet: bool,
    log_format: str,
    storage_url: str,
) -> None:
    """Run trials of study NAME until it has all, beside any number of other workers.

    Ctrl-C and SIGTERM end it after the training step; its plan goes back into the queue.

    \b
    Example:
      jointsearch worker quickstart
      jointsearch worker quickstart --storage postgresql://host/studies --device cuda:1
    """
    from jointsearch.assemble import work

    try:
        seconds = math.inf if idle_exit is None else parse_seconds(idle_exit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--idle-exit") from None
    work(
        name,
        storage_url,
        messages(log_format),
        device=device,
        max_trials=max_trials,
        idle_exit_seconds=seconds,
        quiet=quiet,
    )


def parse_seconds(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``2h`` in seconds; raises ``ValueError``."""
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "s")
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        return float(number) * units[unit]
    except (KeyError, ValueError):
        raise ValueError(f"a time is a number with s, m or h, but got '{text}'") from None
