"""``jointsearch schema``."""

from __future__ import annotations

from pathlib import Path

import click

from jointsearch.cli.telling import tell
from jointsearch.config.schema import schema_text
from jointsearch.files import make_folder_of, write_text


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it here instead of printing it.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of study files, for editors.

    Editors complete and check a study file by it whose comment names it:
    # yaml-language-server: $schema=study.schema.json

    It has what is registered on this machine, that of other packages included.

    \b
    Example:
      jointsearch schema
      jointsearch schema -o study.schema.json
    """
    if output is None:
        click.echo(schema_text(), nl=False)
        return
    make_folder_of(output)
    write_text(output, schema_text())
    tell(f"wrote {output}")
