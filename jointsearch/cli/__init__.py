"""The command line: parses, calls, prints. A command's module is imported when it is called."""

from __future__ import annotations

import logging
import os
import sys

import click

from jointsearch.cli.commands import cli
from jointsearch.errors import JointSearchError, first_line, one_line

__all__ = ["cli", "main"]

PROGRAM = "jointsearch"

_LOG = logging.getLogger("jointsearch")

BUG = 1
USER_MISTAKE = 2
INTERRUPTED = 130


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit status 2.

    So is a database that fails, wherever a command does not wait for it.
    """
    try:
        cli.main(prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USER_MISTAKE)
    except click.UsageError as error:
        _say_error(_with_help(error))
        sys.exit(USER_MISTAKE)
    except click.ClickException as error:
        _say_error(error.format_message())
        sys.exit(USER_MISTAKE)
    except JointSearchError as error:
        _say_error(str(error))
        sys.exit(USER_MISTAKE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if (cause := _of_database(error)) is not None:
            gone = isinstance(cause, KeyError)
            rule = "a study must be there" if gone else "the storage must be there, readable and writable"
            reason = "this one was deleted while the command used it" if gone else first_line(cause)
            _say_error(f"{rule}, but {reason}")
            sys.exit(USER_MISTAKE)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            _say_error(_of_files(error))
            sys.exit(USER_MISTAKE)
        if not _LOG.handlers:
            raise
        _LOG.critical(first_line(error), exc_info=True)
        sys.exit(BUG)


def _with_help(error: click.UsageError) -> str:
    """What is wrong, what is meant perhaps, and where the help is, on one line."""
    path = error.ctx.command_path if error.ctx else PROGRAM
    if isinstance(error, click.NoSuchOption | click.exceptions.NoSuchCommand) and error.possibilities:
        meant = " or ".join(f"'{name}'" for name in error.possibilities)
        return f"{error.message.rstrip('.')}; did you mean {meant}? See `{path} --help`"
    return f"{' '.join(error.format_message().split()).rstrip('.')}; see `{path} --help`"


def _of_files(error: OSError) -> str:
    """What the system says of a file that a command was given: its name is too long, its disk is full, …"""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{where}cannot be read or written ({error.strerror or first_line(error)})"


def _of_database(error: Exception) -> BaseException | None:
    """What the database has said, if it is the cause; only a command that uses one has loaded the library."""
    if "sqlalchemy" not in sys.modules:
        return None
    from jointsearch.study.storage.outages import damage, of_database

    return of_database(error) or damage(error)


def _say_error(message: str) -> None:
    message = one_line(message)
    if _LOG.handlers:  # --log-format json
        _LOG.error(message)
    else:
        click.echo(f"Error: {message}", err=True)
