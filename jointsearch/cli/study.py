"""``jointsearch study``: start, list, status, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jointsearch.cli.common import (
    format_option,
    log_format_option,
    messages,
    print_json,
    print_table,
    storage_option,
)
from jointsearch.cli.search import measure, refine
from jointsearch.cli.status import status, summary_of
from jointsearch.launchers import LAUNCHERS

if TYPE_CHECKING:
    from jointsearch.config.study import StudyConfig


@click.group()
def study() -> None:
    """Start a search, or look at those that are stored.

    \b
    Example:
      jointsearch study start quickstart --trials 8
      jointsearch study list
    """


for command in (measure, refine):
    study.add_command(command)


@study.command()
@click.argument("file")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, instead of the file's number.")
@click.option("--workers", type=click.IntRange(min=1), help="How many; by default one, or one per GPU.")
@click.option(
    "--workers-per-gpu", type=click.IntRange(min=1), default=1, show_default=True, help="On this machine."
)
@click.option("--launcher", type=click.Choice(LAUNCHERS), default="local", show_default=True)
@click.option("--slurm", multiple=True, metavar="KEY=VALUE", help="Of the jobs, such as slurm_partition=gpu.")
@log_format_option
@storage_option
def start(
    file: str,
    trials: int | None,
    workers: int | None,
    workers_per_gpu: int,
    launcher: str,
    slurm: tuple[str, ...],
    log_format: str,
    storage_url: str,
) -> None:
    """Run the study of FILE (a YAML file, or 'quickstart'); resume it if it is there.

    Ctrl-C ends it after the training step; finished trials are kept, and the same command goes on.

    \b
    Example:
      jointsearch study start quickstart
      jointsearch study start studies/gpt2-wikitext2.yaml --trials 50
      jointsearch study start FILE --launcher slurm --workers 8 --slurm slurm_partition=gpu
    """
    from jointsearch.assemble import start_study

    config = _config(file, trials)
    console = messages(log_format)
    result = start_study(
        config,
        storage_url,
        console,
        num_workers=workers,
        workers_per_gpu=workers_per_gpu,
        launcher=launcher,
        launcher_options=_options(slurm, launcher),
    )
    records = result.records()
    left = result.num_left(records)
    state = (
        f"{left} trials left; the same command goes on"
        if left > 0
        else "converged"
        if result.converged
        else "finished"
    )
    stopped = f"{len(records.pruned)} stopped early, " if records.pruned else ""
    counts = f"{len(records.complete)} complete, {stopped}{len(records.failed)} failed"
    console.print(
        f"study '{result.name}': {counts}; {state}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if records.front:
        from jointsearch.study.analysis.verdict import judge

        verdict = judge(result, records).sentence
        console.print(verdict, markup=False, highlight=False, soft_wrap=True)
        console.print(f"next: jointsearch front {result.name}", markup=False, highlight=False)
    if left > 0:
        raise KeyboardInterrupt  # the worker has cleaned up; a script must see that it was stopped


@study.command()
@click.argument("file")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, instead of the file's number.")
@storage_option
def create(file: str, trials: int | None, storage_url: str) -> None:
    """Create the study of FILE and its queue for workers that are started elsewhere.

    \b
    Example:
      jointsearch study create quickstart
      jointsearch worker quickstart
    """
    from jointsearch.assemble import create_only

    created = create_only(_config(file, trials), storage_url)
    click.echo(f"study '{created.name}' is there; next: jointsearch worker {created.name}", err=True)


@study.command()
@click.argument("name")
@storage_option
def pause(name: str, storage_url: str) -> None:
    """Let the workers of study NAME finish their trials and wait.

    \b
    Example:
      jointsearch study pause quickstart
    """
    _want(name, storage_url, "pause", "its workers finish their trials and wait")


@study.command()
@click.argument("name")
@storage_option
def resume(name: str, storage_url: str) -> None:
    """Let the workers of study NAME take trials again, and new ones start.

    \b
    Example:
      jointsearch study resume quickstart
    """
    _want(name, storage_url, "run", "its workers take trials")


@study.command()
@click.argument("name")
@storage_option
def stop(name: str, storage_url: str) -> None:
    """Let the workers of study NAME finish their trials and leave.

    \b
    Example:
      jointsearch study stop quickstart
    """
    _want(name, storage_url, "stop", "its workers finish their trials and leave")


@study.command()
@click.argument("name")
@storage_option
def cancel(name: str, storage_url: str) -> None:
    """Let the workers of study NAME give their trials back to the queue and leave.

    \b
    Example:
      jointsearch study cancel quickstart
    """
    _want(name, storage_url, "cancel", "its workers give their trials back and leave")


@study.command()
@click.argument("name")
@click.option("--trial", type=int, help="This failed trial alone.")
@storage_option
def retry(name: str, trial: int | None, storage_url: str) -> None:
    """Put the failed trials of study NAME back into the queue.

    \b
    Example:
      jointsearch study retry quickstart
      jointsearch study retry quickstart --trial 7
    """
    from jointsearch.study.study import load_study

    numbers = load_study(name, storage_url).retry(trial)
    text = f"trials {', '.join(map(str, numbers))}" if numbers else "no trial has failed: nothing"
    click.echo(f"{text} put back into the queue of study '{name}'", err=True)


study.add_command(status)


@study.command("import")
@click.argument("name")
@click.option("--from", "other", required=True, metavar="OTHER", help="The study whose trials are taken.")
@click.option("--from-storage", metavar="URL", help="Where OTHER is kept, if elsewhere.")
@storage_option
def import_trials(name: str, other: str, from_storage: str | None, storage_url: str) -> None:
    """Give study NAME the finished trials of a compatible one: same model, task, space and calibration.

    \b
    Example:
      jointsearch study import quickstart --from quickstart --from-storage sqlite:///old.db
    """
    from jointsearch.study.study import load_study

    target = load_study(name, storage_url)
    count = target.import_from(load_study(other, from_storage or storage_url))
    click.echo(f"imported {count} trials of study '{other}' into '{name}'", err=True)


@study.command("list")
@storage_option
@format_option("table", "json")
def list_studies(storage_url: str, output_format: str) -> None:
    """List the stored studies.

    \b
    Example:
      jointsearch study list --format json
    """
    from jointsearch.errors import StudyError
    from jointsearch.study.storage.opening import open_storage
    from jointsearch.study.study import open_study, study_names

    storage = open_storage(storage_url)
    rows = []
    for name in study_names(storage):
        try:
            rows.append(summary_of(open_study(storage, name)))
        except StudyError as error:  # of another version: it must not hide the others
            click.echo(str(error), err=True)
    if output_format == "json":
        print_json(rows)
    else:
        columns = ["name", "model", "task", "complete", "running", "failed", "of"]
        print_table(columns, [[str(row[column]) for column in columns] for row in rows])


@study.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
def delete(name: str, yes: bool, storage_url: str) -> None:
    """Delete study NAME and its trials.

    \b
    Example:
      jointsearch study delete quickstart --yes
    """
    from jointsearch.study.storage.opening import open_storage
    from jointsearch.study.study import delete_study, open_study

    storage = open_storage(storage_url)
    num_trials = len(open_study(storage, name).records().trials)
    if not yes:
        click.confirm(f"Delete study '{name}' with {num_trials} trials?", abort=True, err=True)
    delete_study(storage, name)
    click.echo(f"deleted study '{name}' with {num_trials} trials", err=True)


def _config(file: str, trials: int | None) -> StudyConfig:
    from jointsearch.assemble import read_study_file

    config = read_study_file(file)
    if trials is None:
        return config
    search = config.search.model_copy(update={"trials": trials})
    return config.model_copy(update={"search": search})


def _options(given: tuple[str, ...], launcher: str) -> dict[str, str]:
    if given and launcher != "slurm":
        raise click.UsageError("--slurm is for --launcher slurm")
    if wrong := [option for option in given if "=" not in option]:
        raise click.BadParameter(f"must be KEY=VALUE, but got '{wrong[0]}'", param_hint="--slurm")
    return {key: value for key, _, value in (option.partition("=") for option in given)}


def _want(name: str, storage_url: str, state: str, effect: str) -> None:
    from jointsearch.study.control import Wanted
    from jointsearch.study.study import load_study

    load_study(name, storage_url).want(Wanted(state))
    click.echo(f"study '{name}': {effect}", err=True)
