"""``jointsearch init``: five questions, and a study file from the answers."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jointsearch.cli.new_study.data_source import DataSource, find_source, likely_data
from jointsearch.cli.new_study.task_columns import proposed_task
from jointsearch.cli.new_study.writing import Answers, model_id, study_text
from jointsearch.cli.suggestions import devices, num_gpus
from jointsearch.cli.telling import tell
from jointsearch.config.task import TASKS, tasks_of_files
from jointsearch.config.yaml_file import parse_study
from jointsearch.errors import JointSearchError, OutputError
from jointsearch.files import make_folder_of, write_text

TASK = click.Choice(tasks_of_files())
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def _device(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else _valid_device(value)


class _Minutes(click.FloatRange):
    """Click finds NaN and infinity in ranges."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number: float = super().convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"must be a finite number, but got {value}", parameter, context)
        return number


MINUTES = _Minutes(min=1)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="study.yaml")
@click.option("--model", metavar="MODEL", help="An id on the Hub, or a folder.")
@click.option("--data", metavar="DATA", help="A file, a folder, package:NAME, or OWNER/NAME on the Hub.")
@click.option("--task", type=TASK, help="By default what the columns look like.")
@click.option(
    "--device",
    metavar="DEVICE",
    shell_complete=devices,
    callback=_device,
    help="auto, cpu, mps, cuda, cuda:1, ….",
)
@click.option("--minutes", type=MINUTES, help="How long the search may take.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(
    file: Path,
    model: str | None,
    data: str | None,
    task: str | None,
    device: str | None,
    minutes: float | None,
    force: bool,
) -> None:
    """Write a study file for your own model and data.

    It asks for the data, the task, the model, the device and the minutes that the search may take, unless
    they are given; without a terminal it takes the defaults. It looks at the first rows of the data to
    propose the task and its columns. FILE is study.yaml unless you name another.

    \b
    Example:
      jointsearch init
      jointsearch init reviews.yaml --data reviews.csv --minutes 30
    """
    folder = file.absolute().parent
    _check_free(file, force)
    name, source = _source(data, folder)
    task = task or _ask("Task", proposed_task(source.columns), type=TASK)
    model = model or _ask_model(task, folder)
    device = device or _ask("Device (auto, cpu, mps, cuda, cuda:1, …)", "auto", value_proc=_valid_device)
    minutes = minutes or _ask("Minutes that the search may take", 60.0, type=MINUTES)
    answers = Answers(model, name, task, device, minutes)
    kind = device.partition(":")[0]
    if kind == "auto":
        kind = "cuda" if num_gpus() else "cpu"
    text, effort = study_text(answers, source, file, kind)
    parse_study(text, file)
    make_folder_of(file)
    write_text(file, text)
    tell(f"wrote {file}: {effort.trials} trials of {effort.steps} steps")
    if effort.minutes > 2 * minutes:
        tell(f"fewer would show nothing, but they may take some {effort.minutes} minutes")
    tell(f"next: jointsearch study start {shlex.quote(str(file))}")


def _check_free(file: Path, force: bool) -> None:
    if not file.exists() or force:
        return
    if not _can_ask():
        raise OutputError(f"{file}: is there already; give --force to overwrite it, or another name")
    click.confirm(f"{file} is there already. Overwrite it?", abort=True, err=True)


def _source(data: str | None, folder: Path) -> tuple[str, DataSource]:
    if data is None:
        question = "Data, a file, a folder, package:NAME, or OWNER/NAME on the Hub"
        check = _checked(lambda name: find_source(name, folder))
        data = str(_ask(question, likely_data(Path()), value_proc=check))
    return data, find_source(data, folder)


def _ask_model(task: str, folder: Path) -> str:
    proposed = TASKS[task].example_model or None
    if proposed is None and not _can_ask():
        raise click.UsageError(f"--model must be given for the task {task}")
    question = "Model, an id on the Hub or a folder"
    return str(_ask(question, proposed, value_proc=_model(folder)))


def _model(folder: Path) -> Callable[[str], str]:
    return _checked(lambda name: model_id(name, folder))


def _checked(check: Callable[[str], Any]) -> Callable[[str], str]:
    """An answer that breaks a rule is asked for again, with the rule."""

    def process(answer: str) -> str:
        try:
            check(answer)
        except JointSearchError as error:
            raise click.BadParameter(str(error)) from None
        return answer

    return process


def _valid_device(value: str) -> str:
    if not DEVICE.fullmatch(value):
        raise click.BadParameter(f"must be auto, cpu, mps, cuda or cuda:NUMBER, but got '{value}'")
    return value


def _ask(question: str, default: Any, **options: Any) -> Any:
    """The answer of a person at a terminal, else the default."""
    return click.prompt(question, default=default, err=True, **options) if _can_ask() else default


def _can_ask() -> bool:
    return sys.stdin.isatty()
