"""``jointsearch study pause``, ``resume``, ``stop``, ``cancel`` and ``retry``: what workers are to do."""

from __future__ import annotations

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.cli.telling import tell
from jointsearch.study.control import Wanted, want
from jointsearch.study.queue import requeue_failed
from jointsearch.study.study import load_study


@click.command()
@name_argument
@storage_option
def pause(name: str, storage_url: str) -> None:
    """Let workers finish their trials and wait.

    \b
    Example:
      jointsearch study pause quickstart
    """
    _want(name, storage_url, Wanted.PAUSE, "its workers finish their trials and wait")


@click.command()
@name_argument
@storage_option
def resume(name: str, storage_url: str) -> None:
    """Let workers take trials again.

    Those of study NAME that wait go on, and new ones can start.

    \b
    Example:
      jointsearch study resume quickstart
    """
    _want(name, storage_url, Wanted.RUN, "its workers take trials")


@click.command()
@name_argument
@storage_option
def stop(name: str, storage_url: str) -> None:
    """Let workers finish their trials and leave.

    \b
    Example:
      jointsearch study stop quickstart
    """
    _want(name, storage_url, Wanted.STOP, "its workers finish their trials and leave")


@click.command()
@name_argument
@storage_option
def cancel(name: str, storage_url: str) -> None:
    """Let workers give their trials back and leave.

    What they have begun of study NAME goes back into its queue.

    \b
    Example:
      jointsearch study cancel quickstart
    """
    _want(name, storage_url, Wanted.CANCEL, "its workers give their trials back and leave")


@click.command()
@name_argument
@click.option("--trial", type=int, help="This failed trial alone.")
@storage_option
def retry(name: str, trial: int | None, storage_url: str) -> None:
    """Put failed trials back into the queue.

    \b
    Example:
      jointsearch study retry quickstart
      jointsearch study retry quickstart --trial 7
    """
    numbers = requeue_failed(load_study(name, storage_url), trial)
    text = f"trials {', '.join(map(str, numbers))}" if numbers else "no trial has failed: nothing"
    tell(f"{text} put back into the queue of study '{name}'")


def _want(name: str, storage_url: str, state: Wanted, effect: str) -> None:
    want(load_study(name, storage_url).optuna_study, state)
    tell(f"study '{name}': {effect}")
