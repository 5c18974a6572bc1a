"""``jointsearch compare-outputs``: what two models make of the same validation examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from jointsearch.cli.options import format_option, storage_option
from jointsearch.cli.suggestions import trials_and_runs
from jointsearch.cli.tables import print_json
from jointsearch.errors import OutputError, StudyError, visible
from jointsearch.files import read_text
from jointsearch.study.plans import chosen_trial, complete_trial
from jointsearch.study.study import load_study


@click.command("compare-outputs")
@click.argument("first", metavar="A", shell_complete=trials_and_runs)
@click.argument("second", metavar="B", shell_complete=trials_and_runs)
@storage_option
@format_option("text", "json")
def compare_outputs(first: str, second: str, storage_url: str, output_format: str) -> None:
    """Show what two models make of the same texts.

    The stored outputs of A and B stand side by side. These are trials (NAME:NUMBER), selected points
    (NAME), or folders of full runs.

    \b
    Example:
      jointsearch compare-outputs quickstart:0 quickstart:8
      jointsearch compare-outputs quickstart:8 runs/final
    """
    one, other = (_outputs(source, storage_url) for source in (first, second))
    pairs = [
        {"input": a["input"], "reference": a["reference"], "A": a["output"], "B": b["output"]}
        for a, b in zip(one, other, strict=False)
        if (a["input"], a["reference"]) == (b["input"], b["reference"])
    ]
    if not pairs:
        raise StudyError(
            f"the outputs to be compared must be of the same examples, but {first} and {second} share none; "
            "take two trials of one study, or runs of its plans"
        )
    if output_format == "json":
        print_json({"A": first, "B": second, "examples": pairs})
        return
    for position, pair in enumerate(pairs, start=1):
        same = " (the same)" if pair["A"] == pair["B"] else ""
        shown = {name: visible(text, keep="\n\t") for name, text in pair.items()}
        click.secho(f"{position}. {shown['input']}", bold=True)
        click.echo(f"   reference: {shown['reference']}")
        click.echo(f"   {first}: {shown['A']}")
        click.echo(f"   {second}: {shown['B']}{same}")


def _outputs(source: str, storage_url: str) -> list[dict[str, Any]]:
    """Input, output and reference of every stored example of a trial or a run."""
    if Path(source).is_dir():
        return _of_run(Path(source))
    name, _, number = source.partition(":")
    if number and not number.isdecimal():
        raise StudyError(f"a trial is NAME:NUMBER, and a run a folder that is there, but got '{source}'")
    study = load_study(name, storage_url)
    trial = complete_trial(study, int(number) if number else chosen_trial(study))
    return [example.model_dump() for example in trial.measurement.examples]


def _of_run(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.json"
    try:
        found: list[dict[str, Any]] = json.loads(read_text(path))["examples"]
    except (OSError, ValueError, KeyError):
        raise OutputError(
            f"the outputs of a run are in its metrics.json, but {path} has none; "
            "a finished `jointsearch train` writes it"
        ) from None
    return found
