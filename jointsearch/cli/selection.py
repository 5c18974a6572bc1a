"""``jointsearch select``: the point of a study that is trained in full and exported."""

from __future__ import annotations

import math
from typing import Any

import click

from jointsearch.cli.options import format_option, name_argument, storage_option
from jointsearch.cli.tables import print_json
from jointsearch.front.objectives import parse_bytes
from jointsearch.front.selection import at_knee, within_bytes, within_quality
from jointsearch.study.analysis.progress import trial_line
from jointsearch.study.full_runs import select_trial, withdraw_trial
from jointsearch.study.plans import complete_trial, records_with_front
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import load_study


class Finite(click.ParamType[float]):
    """A number that is neither infinite nor NaN: no point is chosen by those."""

    name = "float"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number: float = click.FLOAT.convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"must be a finite number, but got {value}", parameter, context)
        return number


FINITE = Finite()


@click.command()
@name_argument
@click.option("--max-bytes", metavar="SIZE", help="The best point of at most this size, such as 600kB.")
@click.option("--max-loss", type=FINITE, help="The smallest point with at most this loss.")
@click.option("--quality", type=FINITE, help="The smallest point at least this good, in any metric.")
@click.option("--knee", is_flag=True, help="The point where the front bends most.")
@click.option("--trial", type=int, help="This complete trial, on the front or not.")
@click.option("--withdraw", type=int, help="Instead take the selection of this trial back.")
@click.option("--note", default="", help="Why, for whoever trains it or reads its result.")
@storage_option
@format_option("text", "json")
def select(
    name: str,
    max_bytes: str | None,
    max_loss: float | None,
    quality: float | None,
    knee: bool,
    trial: int | None,
    withdraw: int | None,
    note: str,
    storage_url: str,
    output_format: str,
) -> None:
    """Select a point of a study for its full run.

    `worker --full-runs` trains all that are selected, `export` writes the last. One whose full run has
    failed is trained again if it is selected again.

    \b
    Example:
      jointsearch select quickstart --max-bytes 1.5MB
      jointsearch select quickstart --knee --note "for the phone"
    """
    ways = {
        "--max-bytes": max_bytes,
        "--max-loss": max_loss,
        "--quality": quality,
        "--knee": knee or None,
        "--trial": trial,
        "--withdraw": withdraw,
    }
    given = [way for way, value in ways.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError(f"give exactly one of {', '.join(ways)}, but got {given or 'none'}")
    study = load_study(name, storage_url)
    if withdraw is not None:
        _withdraw(study, withdraw, output_format)
        return
    if max_loss is not None and study.config.quality != "loss":
        raise click.UsageError(
            f"--max-loss needs a study with the objective loss, but it has {study.config.quality}; "
            "use --quality"
        )
    if trial is None:
        trial = _point(study, max_bytes, max_loss if quality is None else quality)
    chosen = complete_trial(study, trial)
    select_trial(study.optuna_study, trial, note)
    if output_format == "json":
        print_json({"trial": trial, **chosen.values})
    else:
        click.echo(f"selected {trial_line(chosen)}")


def _withdraw(study: StoredStudy, trial: int, output_format: str) -> None:
    withdraw_trial(study.optuna_study, trial)
    if output_format == "json":
        print_json({"withdrawn": trial})
    else:
        click.echo(f"trial {trial} is not selected any more")


def _point(study: StoredStudy, max_bytes: str | None, bound: float | None) -> int:
    """The trial of the front's point within a size or a quality, or at its knee."""
    metric = study.config.quality
    if max_bytes is not None:
        try:
            budget = parse_bytes(max_bytes)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--max-bytes") from None
        return within_bytes(records_with_front(study).front_points, budget, metric).trial
    points = records_with_front(study).front_points
    return (at_knee(points, metric) if bound is None else within_quality(points, bound, metric)).trial
