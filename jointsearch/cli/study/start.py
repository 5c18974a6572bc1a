"""``jointsearch study start`` and ``create``."""

from __future__ import annotations

import click
from rich.console import Console

from jointsearch.assemble import read_study_file
from jointsearch.cli.messages import messages, say
from jointsearch.cli.on_console import OnConsole
from jointsearch.cli.options import log_format_option, storage_option, study_file_argument, trust_option
from jointsearch.cli.telling import tell
from jointsearch.config.study import StudyConfig
from jointsearch.creating import find_or_create
from jointsearch.launchers import LAUNCHERS
from jointsearch.starting import start_study
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.stored import StoredStudy


def _by_key(_context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    if wrong := [option for option in given if "=" not in option]:
        raise click.BadParameter(f"must be KEY=VALUE, but got '{wrong[0]}'")
    return {key: value for key, _, value in (option.partition("=") for option in given)}


@click.command()
@study_file_argument
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, instead of the file's number.")
@click.option("--workers", type=click.IntRange(min=1), help="How many; by default one, or one per GPU.")
@click.option(
    "--workers-per-gpu", type=click.IntRange(min=1), default=1, show_default=True, help="On this machine."
)
@click.option("--launcher", type=click.Choice(tuple(LAUNCHERS)), default="local", show_default=True)
@click.option(
    "--launcher-option",
    "--slurm",
    "launcher_options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_by_key,
    help="Of a launcher that has some, such as slurm_partition=gpu.",
)
@trust_option
@log_format_option
@storage_option
def start(
    file: str,
    trials: int | None,
    workers: int | None,
    workers_per_gpu: int,
    launcher: str,
    launcher_options: dict[str, str],
    log_format: str,
    storage_url: str,
) -> None:
    """Run the study of a file, or resume it.

    FILE is a YAML file, or 'quickstart', the embedded study. Ctrl-C ends it after the training step;
    finished trials are kept, and the same command goes on.

    \b
    Example:
      jointsearch study start quickstart
      jointsearch study start studies/gpt2-wikitext2.yaml --trials 50
      jointsearch study start FILE --launcher slurm --launcher-option slurm_partition=gpu
    """
    config = _config(file, trials)
    console = messages(log_format)
    result = start_study(
        config,
        storage_url,
        OnConsole(console),
        num_workers=workers,
        workers_per_gpu=workers_per_gpu,
        launcher=launcher,
        launcher_options=launcher_options,
    )
    left = _tell_how_it_ended(result, console)
    if left > 0:
        raise KeyboardInterrupt  # the worker has cleaned up; a script must see that it was stopped


def _tell_how_it_ended(study: StoredStudy, console: Console) -> int:
    """Say it, and return how many trials are left."""
    records = study.records()
    left = study.num_left(records)
    state = "converged" if study.converged() else "finished"
    if left > 0:
        state = f"{left} trials left; the same command goes on"
    stopped = f"{len(records.pruned)} stopped early, " if records.pruned else ""
    finals = sum(len(records.at(steps).complete) for steps in records.lengths)
    counts = f"{len(records.complete)} complete, {stopped}{len(records.failed)} failed"
    counts += f", {finals} finals" if finals else ""
    lines = [f"study '{study.name}': {counts}; {state}"]
    if records.front:
        lines += [judge(study, records.answer).sentence, f"next: jointsearch front {study.name}"]
    for line in lines:
        say(console, line)
    return left


@click.command()
@study_file_argument
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, instead of the file's number.")
@trust_option
@storage_option
def create(file: str, trials: int | None, storage_url: str) -> None:
    """Create a study for workers that are started elsewhere.

    FILE is a YAML file, or 'quickstart'. The study has its queue, and runs nothing.

    \b
    Example:
      jointsearch study create quickstart
      jointsearch worker quickstart
    """
    created = find_or_create(_config(file, trials), storage_url)
    tell(f"study '{created.name}' is there; next: jointsearch worker {created.name}")


def _config(file: str, trials: int | None) -> StudyConfig:
    config = read_study_file(file)
    return config if trials is None else config.with_trials(trials)
