"""``jointsearch export``: the selected plan as a file."""

from __future__ import annotations

from pathlib import Path

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.cli.telling import tell
from jointsearch.export import TARGETS, ExportSource
from jointsearch.export import export as export_to
from jointsearch.front.objectives import format_bytes
from jointsearch.study.plans import export_plan
from jointsearch.study.study import load_study


@click.command()
@name_argument
@click.option(
    "--to",
    "target",
    type=click.Choice(tuple(TARGETS)),
    default="plan",
    show_default=True,
    help="In which form.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write it.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@storage_option
def export(name: str, target: str, output: Path, force: bool, storage_url: str) -> None:
    """Write the plan of the selected point as a file.

    Without a selection it is the knee of the front of study NAME. Folders that are not there are made. 'plan'
    is a file that jointsearch trains and loads; 'peft' a folder with PEFT's adapter_config.json.

    \b
    Example:
      jointsearch export quickstart -o plan.json
      jointsearch export quickstart -o plan.json --force
      jointsearch export quickstart --to peft -o adapter
    """
    plan = export_plan(load_study(name, storage_url))
    source = ExportSource(plan)
    export_to(source, target, output, overwrite=force)
    for limit in TARGETS[target].limits(source):
        tell(f"{target} has {limit}")
    assert plan.origin is not None
    size = format_bytes(plan.cost.model_bytes)
    if foretold := plan.origin.memory.get("training_memory"):
        size += f", {format_bytes(foretold)} to train"
    tell(f"wrote {output}: trial {plan.origin.trial} of '{name}', {size}")
