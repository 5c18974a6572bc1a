"""The command line: parses, calls, prints. Commands import what they need when they run."""

from __future__ import annotations

import sys

import click

from jointsearch import __version__
from jointsearch.cli.common import LOG
from jointsearch.cli.compare import compare
from jointsearch.cli.dashboard import dashboard, report
from jointsearch.cli.doctor import doctor
from jointsearch.cli.front import export, front, select
from jointsearch.cli.outputs import compare_outputs
from jointsearch.cli.plan import plan
from jointsearch.cli.run import evaluate, train
from jointsearch.cli.storage import storage
from jointsearch.cli.study import study
from jointsearch.cli.worker import worker
from jointsearch.errors import JointSearchError, first_line

BUG = 1
USER_MISTAKE = 2
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Find how many bits and which LoRA rank each layer of a language model needs.

    \b
    Example:
      jointsearch study start quickstart      # search; needs no network
      jointsearch front quickstart            # quality against bytes
      jointsearch export quickstart -o plan.json
      jointsearch train plan.json -o runs/final
    """


COMMANDS = (
    study,
    worker,
    storage,
    front,
    select,
    export,
    dashboard,
    report,
    plan,
    train,
    evaluate,
    compare,
    compare_outputs,
    doctor,
)

for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit status 2.

    So is a database that fails, wherever a command does not wait for it.
    """
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
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
        from jointsearch.study.storage.outages import of_database

        if (cause := of_database(error)) is not None:
            _say_error(f"the storage must be there, readable and writable, but {first_line(cause)}")
            sys.exit(USER_MISTAKE)
        if not LOG.handlers:
            raise
        LOG.critical(first_line(error), exc_info=True)
        sys.exit(BUG)


def _say_error(message: str) -> None:
    if LOG.handlers:  # --log-format json
        LOG.error(message)
    else:
        click.echo(f"Error: {message}", err=True)
