"""Options and arguments that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jointsearch.cli.suggestions import study_files, study_names
from jointsearch.config.study import DEFAULT_STORAGE
from jointsearch.config.trust import TRUST_REMOTE_CODE, trust_remote_code
from jointsearch.errors import StorageError

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

name_argument = click.argument("name", shell_complete=study_names)

study_file_argument = click.argument("file", shell_complete=study_files)


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


def _trust(_context: click.Context, _parameter: click.Parameter, given: bool) -> None:
    if given:
        trust_remote_code()


trust_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    envvar=TRUST_REMOTE_CODE,
    show_envvar=True,
    expose_value=False,
    callback=_trust,
    help="Run the code that comes with a model; no file and no storage can say so.",
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
