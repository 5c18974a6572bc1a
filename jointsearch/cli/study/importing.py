"""``jointsearch study import``."""

from __future__ import annotations

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.cli.suggestions import study_names
from jointsearch.cli.telling import tell
from jointsearch.study.imports import import_trials
from jointsearch.study.study import load_study


@click.command("import")
@name_argument
@click.option(
    "--from",
    "other",
    required=True,
    shell_complete=study_names,
    metavar="OTHER",
    help="The study whose trials are taken.",
)
@click.option("--from-storage", metavar="URL", help="Where OTHER is kept, if elsewhere.")
@storage_option
def import_command(name: str, other: str, from_storage: str | None, storage_url: str) -> None:
    """Take over the trials of a compatible study.

    Study NAME gets the finished ones. Both must have the same model, task, space and calibration.

    \b
    Example:
      jointsearch study import quickstart --from quickstart --from-storage sqlite:///old.db
    """
    target = load_study(name, storage_url)
    count = import_trials(target, load_study(other, from_storage or storage_url))
    tell(f"imported {count} trials of study '{other}' into '{name}'")
