"""``jointsearch study measure``, ``refine`` and ``finals``: ask the workers of a study for certain trials."""

from __future__ import annotations

import click

from jointsearch.cli.options import format_option, name_argument, storage_option
from jointsearch.cli.tables import print_json
from jointsearch.cli.telling import tell
from jointsearch.config.search import FinalsSettings
from jointsearch.front.objectives import format_bytes, format_value, parse_bytes
from jointsearch.study.analysis.finals import request_finals
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


def _multiples(
    context: click.Context, parameter: click.Parameter, given: str | None
) -> tuple[int, ...] | None:
    if given is None:
        return None
    try:
        return FinalsSettings(times=tuple(int(word) for word in given.split(","))).times
    except ValueError:
        raise click.BadParameter(
            f"must be whole numbers above 1 with commas between, such as 4,16, but got '{given}'"
        ) from None


@click.command()
@name_argument
@click.option(
    "--times",
    metavar="N,N",
    callback=_multiples,
    help="Lengths, as multiples of calibration.steps: the study's search.finals, or 4,16.",
)
@click.option("--seeds", type=click.IntRange(min=1), help="That each plan is run with: the study's, or 1.")
@storage_option
def finals(name: str, times: tuple[int, ...] | None, seeds: int | None, storage_url: str) -> None:
    """Run the front on for longer.

    What a rank is worth shows late. The plans on the front of study NAME, their rivals on the ladder and the
    selected plans are trained anew at the first length; called again once these are measured, what is then on
    the front at the next length. The trials go into the queue; `study start` or workers run them. `front` and
    `export` then go by the longest ones, and `study status` tells how well trials have foretold them.

    \b
    Example:
      jointsearch study finals quickstart --times 4,16
      jointsearch study start quickstart
    """
    study = load_study(name, storage_url)
    given = {key: value for key, value in (("times", times), ("seeds", seeds)) if value is not None}
    settings = (study.config.search.finals or FinalsSettings()).model_copy(update=given)
    num = request_finals(study, settings)
    left = study.num_left(study.records())
    if num:
        text = f"{num} finals put into the queue; once they are measured, call this again"
    elif left:
        text = f"nothing new to do: {left} trials are to be finished first"
    else:
        text = "nothing to do: all finals are there"
    tell(f"study '{name}': {text}")
