"""``jointsearch study measure`` and ``refine``: ask the workers of a study for certain trials."""

from __future__ import annotations

import click

from jointsearch.cli.options import format_option, name_argument, storage_option
from jointsearch.cli.tables import print_json
from jointsearch.cli.telling import tell
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.front.selection import parse_bytes
from jointsearch.study.analysis.refine import refine as request_seeds
from jointsearch.study.study import load_study


@click.command()
@name_argument
@click.option("--max-bytes", metavar="SIZE", required=True, help="At most this size, such as 600kB.")
@storage_option
@format_option("text", "json")
def measure(name: str, max_bytes: str, storage_url: str, output_format: str) -> None:
    """Have the predicted optimum of a size measured.

    It is the plan that study NAME predicts to be the best. It goes into the queue, on top of the
    search's trials; a worker, or `study start`, measures it.

    \b
    Example:
      jointsearch study measure quickstart --max-bytes 1.5MB
    """
    from jointsearch.study.analysis.prediction import measure_optimum  # it takes SciPy a while

    try:
        budget = parse_bytes(max_bytes)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--max-bytes") from None
    found = load_study(name, storage_url)
    point = measure_optimum(found, budget)
    if output_format == "json":
        print_json(
            {
                "model_bytes": point.model_bytes,
                "quality": point.quality,
                "low": point.low,
                "high": point.high,
                "digest": found.space.plan(point.values).digest,
            }
        )
    else:
        quality = found.config.quality
        low, middle, high = (format_value(quality, value) for value in (point.low, point.quality, point.high))
        click.echo(
            f"put into the queue of study '{name}': {format_bytes(point.model_bytes)}, "
            f"predicted {quality} {middle} ({low} to {high})"
        )


@click.command()
@name_argument
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Further seeds for each plan; from two on there is a verdict.",
)
@storage_option
def refine(name: str, seeds: int, storage_url: str) -> None:
    """Measure the front with further seeds.

    Its rivals are measured, too: plans of equal bytes that need no search. First those next to the front of
    study NAME, under the search's own seed; called again after that, the points and their rivals with further
    seeds. The trials go into the queue; `study start` or workers run them. `front` then shows means with
    standard errors, and whether searching has paid.

    \b
    Example:
      jointsearch study refine quickstart --seeds 3
      jointsearch study start quickstart
      jointsearch study refine quickstart --seeds 3
      jointsearch study start quickstart
    """
    num = request_seeds(load_study(name, storage_url), seeds)
    text = (
        f"{num} trials put into the queue; once they are measured, call this again"
        if num
        else "nothing to do: all of these trials are there"
    )
    tell(f"study '{name}': {text}")
