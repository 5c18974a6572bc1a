"""``jointsearch fit``: what of a search fits a device, before any weight is read."""

from __future__ import annotations

from typing import Any

import click

from jointsearch.assemble import read_study_file, seconds_per_trial
from jointsearch.cli.options import format_option, study_file_argument, trust_option
from jointsearch.cli.tables import print_json, print_table
from jointsearch.fitting import fit_device
from jointsearch.front.objectives import format_bytes, parse_bytes


def _bytes(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@study_file_argument
@click.option("--device-memory", metavar="SIZE", callback=_bytes, help="Such as 12GB, not this machine's.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="Instead of this machine's.")
@click.option("--measure", is_flag=True, help="Also time a few steps; this reads the weights.")
@trust_option
@format_option("table", "json")
def fit(file: str, device_memory: int | None, device: str | None, measure: bool, output_format: str) -> None:
    """Show what fits a device, at which batch size.

    FILE is a YAML file, or 'quickstart'. No weights are read: memory is foretold from shapes. With
    --measure a few steps tell how long a trial and the study take. Exit status 1 where nothing fits.

    \b
    Example:
      jointsearch fit quickstart
      jointsearch fit studies/llama-3.1-8b-guanaco.yaml --device cuda --device-memory 12GB
      jointsearch fit FILE --measure
    """
    config = read_study_file(file)
    found = fit_device(config, memory_bytes=device_memory, device=device)
    times: dict[str, Any] = {}
    if measure:
        seconds = seconds_per_trial(config)
        times = {"seconds_per_trial": seconds, "study_seconds": seconds * config.search.trials}
    if output_format == "json":
        print_json({**found.as_dict(), **times})
    else:
        rows = [
            [
                row.label,
                format_bytes(row.training_memory),
                "fits" if row.headroom >= 0 else "too large",
                format_bytes(row.headroom) if row.headroom >= 0 else "-",
                str(row.largest_batch),
                format_bytes(row.serving_memory),
            ]
            for row in found.rows
        ]
        columns = ["plan", "to train", "", "left", "largest batch, about", "to serve"]
        print_table(columns, rows, title=f"{found.device}, {format_bytes(found.device_memory)}")
        for sentence in found.sentences:
            click.echo(sentence)
        if times:
            click.echo(
                f"a trial takes about {times['seconds_per_trial']:.0f} s, the study's {config.search.trials} "
                f"trials {times['study_seconds'] / 3600:.1f} h with one worker"
            )
    if not found.fitting:
        raise click.exceptions.Exit(1)
