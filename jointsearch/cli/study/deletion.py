"""``jointsearch study delete``."""

from __future__ import annotations

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.cli.telling import tell
from jointsearch.errors import visible
from jointsearch.study.busy import busy_workers
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import delete_study, open_study


@click.command()
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also while workers run its trials.")
@storage_option
def delete(name: str, yes: bool, force: bool, storage_url: str) -> None:
    """Delete a study and its trials.

    It is refused while workers run its trials; with --force these end, and what they have done is lost.

    \b
    Example:
      jointsearch study delete quickstart --yes
    """
    storage = open_storage(storage_url)
    study = open_study(storage, name)
    num_trials = len(study.records().trials)
    if force and (busy := busy_workers(study)):
        tell(f"still at work: {', '.join(busy)}")
    if not yes:
        click.confirm(visible(f"Delete study '{name}' with {num_trials} trials?"), abort=True, err=True)
    delete_study(storage, name, force=force)
    tell(f"deleted study '{name}' with {num_trials} trials")
