"""Lines for a person, on standard error."""

from __future__ import annotations

import click

from jointsearch.errors import visible


def tell(line: str) -> None:
    """A line that may hold a name, or what somebody has stored: no terminal obeys it."""
    click.echo(visible(line), err=True)
