"""What several commands share: the storage option, formats, tables on a terminal."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jointsearch.config.study import DEFAULT_STORAGE
from jointsearch.errors import StorageError

if TYPE_CHECKING:
    from rich.console import Console

LOG = logging.getLogger("jointsearch")

PASSWORD_FILE = "JOINTSEARCH_STORAGE_PASSWORD_FILE"


def _with_password(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    """``url`` with the password of the file that the environment names, if it has a user and no password.

    libpq's own password file cannot do this in a container: it is refused unless its reader alone may
    read it, and engines mount secrets as root's, readable by a group.
    """
    path = os.environ.get(PASSWORD_FILE)
    if not path:
        return url
    from jointsearch.study.storage.urls import lacks_password, with_password

    if not lacks_password(url):
        return url
    try:
        password = Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StorageError(f"{PASSWORD_FILE} must name a readable file, but {path}: {reason}") from None
    if not password:
        raise StorageError(f"{PASSWORD_FILE} must name a file with a password, but {path} is empty")
    return with_password(url, password)


storage_option = click.option(
    "--storage",
    "storage_url",
    envvar="JOINTSEARCH_STORAGE",
    default=DEFAULT_STORAGE,
    show_default=True,
    show_envvar=True,
    metavar="URL",
    callback=_with_password,
    help="Where studies are kept.",
)


def format_option(*choices: str) -> Callable[[Any], Any]:
    """``--format``, the first choice by default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="json is alone on standard output.",
    )


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    envvar="JOINTSEARCH_LOG_FORMAT",
    default="text",
    show_default=True,
    show_envvar=True,
    help="What standard error gets; json is one line per event.",
)


def messages(log_format: str = "text") -> Console:
    """Everything that is not a command's result goes to standard error: as text, or as JSON by logging."""
    from rich.console import Console

    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler = logging.StreamHandler()
        handler.setFormatter(
            JsonFormatter(
                ["asctime", "levelname", "message"],
                rename_fields={"asctime": "time", "levelname": "level", "message": "event"},
            )
        )
        LOG.addHandler(handler)
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").addHandler(handler)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
        os.environ["JOINTSEARCH_LOG_FORMAT"] = log_format  # for workers that this process starts
    return Console(stderr=True, quiet=log_format == "json")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


def print_table(columns: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """A table on standard output; numbers are aligned to the right, and nothing is cut."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        numeric = all(row[position][:1].isdigit() or row[position] in ("", "-") for row in rows)
        table.add_column(column, justify="right" if rows and numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width: no line is folded
    console.print(table, markup=False)
