"""``jointsearch export``: the selected plan as a file."""

from __future__ import annotations

from pathlib import Path

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.errors import OutputError
from jointsearch.files import make_folder_of
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.plan_file import write_plan
from jointsearch.study.plans import export_plan
from jointsearch.study.study import load_study


@click.command()
@name_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write it.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@storage_option
def export(name: str, output: Path, force: bool, storage_url: str) -> None:
    """Write the plan of the selected point as a file.

    Without a selection it is the knee of the front of study NAME. Folders that are not there are made.

    \b
    Example:
      jointsearch export quickstart -o plan.json
      jointsearch export quickstart -o plan.json --force
    """
    if output.exists() and not force:
        raise OutputError(f"{output}: is there already; give --force to overwrite it, or another name")
    plan = export_plan(load_study(name, storage_url))
    make_folder_of(output)
    write_plan(plan, output)
    assert plan.origin is not None
    size = format_bytes(plan.cost.model_bytes)
    click.echo(f"wrote {output}: trial {plan.origin.trial} of '{name}', {size}", err=True)
