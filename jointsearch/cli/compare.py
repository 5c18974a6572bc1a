"""``jointsearch compare``: named strategies beside each other, with errors and confidence."""

from __future__ import annotations

from pathlib import Path

import click

from jointsearch.assemble import read_study_file
from jointsearch.cli.messages import messages
from jointsearch.cli.on_console import OnConsole
from jointsearch.cli.options import storage_option, trust_option
from jointsearch.cli.suggestions import strategies as strategy_names
from jointsearch.cli.suggestions import study_files
from jointsearch.cli.tables import print_table
from jointsearch.cli.telling import tell
from jointsearch.errors import OutputError, visible
from jointsearch.files import write_text
from jointsearch.front.objectives import parse_bytes
from jointsearch.starting import compare_strategies
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.study.analysis.compare import ComparisonSettings
from jointsearch.study.analysis.comparison import Comparison
from jointsearch.study.analysis.comparison_formats import (
    caption,
    cells,
    columns,
    csv_text,
    json_text,
    markdown,
)

FORMATS = {"markdown": ".md", "csv": ".csv", "json": ".json", "html": ".html"}

DROPPED = ("inference/s", "s/epoch", "stability", "peak memory", "trained", "bytes/parameter", "size")
"""The columns that a narrow terminal does without, the first one first."""


@click.command()
@click.argument("file", required=False, shell_complete=study_files)
@click.option(
    "--strategies",
    metavar="NAMES",
    shell_complete=strategy_names,
    help="Names with commas between; 'configurations' are the five of the default, 'all' is every one "
    "that the model can have.",
)
@click.option("--list", "list_only", is_flag=True, help="List the strategies by name, and end.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many.")
@click.option("--max-bytes", metavar="SIZE", help="Fill this size with every strategy, such as 1.2MB.")
@click.option("--rank", type=click.IntRange(min=1), help="Mean rank; default: the middle one of the study's.")
@storage_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", *FORMATS]),
    default="table",
    show_default=True,
    help="What is printed.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Save it too: .md, .csv, .json or .html with plots. May be given several times.",
)
@trust_option
def compare(
    file: str | None,
    strategies: str | None,
    list_only: bool,
    seeds: int,
    max_bytes: str | None,
    rank: int | None,
    storage_url: str,
    output_format: str,
    output: tuple[Path, ...],
) -> None:
    """Compare named strategies on a study.

    FILE is a YAML file, or 'quickstart'. Every plan is a trial of the study, measured with each seed; what
    is measured is not measured again. The best points of the study's own front at the same bytes are
    compared too. On a terminal that is too narrow these columns are left out, in this order: inference/s,
    s/epoch, stability, peak memory, trained, bytes/parameter, size.

    \b
    Example:
      jointsearch compare quickstart
      jointsearch compare quickstart --strategies configurations,linear-decay --max-bytes 1.2MB
      jointsearch compare quickstart --seeds 5 -o compare.html -o compare.md
      jointsearch compare --list
    """
    if list_only:
        _list()
        return
    if file is None:
        raise click.UsageError("give a study FILE, or 'quickstart', or --list alone")
    config = read_study_file(file)
    for path in output:
        if path.suffix not in FORMATS.values():
            raise click.BadParameter(
                f"a file must end in {', '.join(FORMATS.values())}, but got '{path}'", param_hint="--output"
            )
        if not path.absolute().parent.is_dir():
            raise OutputError(f"{path}: cannot be written (there is no folder {path.parent})")
    try:
        budget = None if max_bytes is None else parse_bytes(max_bytes)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--max-bytes") from None
    found = compare_strategies(
        config,
        storage_url,
        OnConsole(messages()),
        lambda layout: ComparisonSettings.named(strategies, layout, seeds, budget, rank),
    )
    if found is None:
        raise KeyboardInterrupt  # the worker has cleaned up; a script must see that it was stopped
    _print(found, output_format)
    for path in output:
        kind = next(kind for kind, suffix in FORMATS.items() if suffix == path.suffix)
        write_text(path, _text(found, kind))
        tell(f"wrote {path}")


def _print(found: Comparison, output_format: str) -> None:
    if output_format == "table":
        print_table(_short_columns(found), cells(found), title=f"Strategies on '{found.study}'", drop=DROPPED)
        tell(f"{caption(found)} The intervals are at {found.confidence:.0%}.")
    elif output_format == "html":
        click.echo(
            _text(found, output_format), nl=False
        )  # for a browser, and its scripts have such characters
    else:
        click.echo(visible(_text(found, output_format), keep="\r\n\t"), nl=False)


def _short_columns(found: Comparison) -> list[str]:
    """What each means is said below the table, where there is room for it."""
    strategy, _quality, _difference, *others = columns(found)
    return [strategy, f"{found.quality} ± s.e.", f"difference to {found.reference}", *others]


def _text(found: Comparison, kind: str) -> str:
    if kind == "html":
        from jointsearch.dashboard.comparison_report import comparison_html  # Plotly takes a moment

        return comparison_html(found)
    return {"markdown": markdown, "csv": csv_text, "json": json_text}[kind](found)


def _list() -> None:
    print_table(
        ["strategy", "bits", "rule"],
        [[s.name, str(s.bits or ""), s.description] for s in STRATEGIES.values()],
    )
