"""``jointsearch study delete``."""

from __future__ import annotations

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import delete_study, open_study


@click.command()
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
def delete(name: str, yes: bool, storage_url: str) -> None:
    """Delete a study and its trials.

    \b
    Example:
      jointsearch study delete quickstart --yes
    """
    storage = open_storage(storage_url)
    num_trials = len(open_study(storage, name).records().trials)
    if not yes:
        click.confirm(f"Delete study '{name}' with {num_trials} trials?", abort=True, err=True)
    delete_study(storage, name)
    click.echo(f"deleted study '{name}' with {num_trials} trials", err=True)
