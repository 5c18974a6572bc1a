"""``jointsearch train`` and ``evaluate``: the full run of a plan, and what came out of it."""

from __future__ import annotations

from pathlib import Path

import click

from jointsearch.assemble import read_study_file, with_labels
from jointsearch.cli.messages import messages
from jointsearch.cli.options import format_option, trust_option
from jointsearch.cli.suggestions import plan_files, study_files
from jointsearch.cli.tables import print_json, print_table
from jointsearch.cli.telling import tell
from jointsearch.cli.training_progress import TrainingProgress
from jointsearch.errors import OutputError
from jointsearch.front.objectives import format_value
from jointsearch.plan.plan_file import read_plan
from jointsearch.training.quiet import quiet_libraries


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder; empty or new."
)
@click.option(
    "--study",
    "study_file",
    metavar="FILE",
    shell_complete=study_files,
    help="Take model, task, full_run and device from this study file.",
)
@trust_option
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of an interrupted run.")
def train(plan: Path, output: Path, study_file: str | None, resume: bool) -> None:
    """Train a plan in full.

    Model, adapter and metrics of PLAN, a file that `export` wrote, go into the output folder.

    \b
    Example:
      jointsearch train plan.json -o runs/final
      jointsearch train plan.json -o runs/long --study studies/gpt2-wikitext2.yaml
    """
    content = read_plan(plan)
    if study_file is not None:
        config = with_labels(read_study_file(study_file), content.study)
        taken = {name: getattr(config, name) for name in ("model", "task", "full_run", "device")}
        study = content.study.model_copy(update=taken)
        content = content.under(study)
    quiet_libraries()
    from jointsearch.training.full_run.run import full_run

    with TrainingProgress(messages()) as progress:
        result = full_run(content, output, resume=resume, listener=progress, tell=progress.tell)
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in result.validation.items())
    tell(f"trained {result.steps} steps into {output}; validation: {numbers}")
    tell(f"next: jointsearch evaluate {output}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option("--examples", type=click.IntRange(min=1), help="Measure on the first so many of them alone.")
@trust_option
@format_option("table", "json")
def evaluate(run: Path, split: str, examples: int | None, output_format: str) -> None:
    """Measure a finished full run on its test split.

    RUN is the folder that `train` made. Metrics, speed and memory are shown.

    \b
    Example:
      jointsearch evaluate runs/final
      jointsearch evaluate runs/final --split validation --examples 500
    """
    if not run.is_dir():
        raise OutputError(f"a run is a folder that `jointsearch train` made, but there is none at {run}")
    quiet_libraries()
    from jointsearch.training.full_run.evaluation import evaluate_run

    with TrainingProgress(messages(), beginning="loading") as progress:
        result = evaluate_run(run, split, limit=examples, listener=progress.measured, tell=progress.tell)
    if output_format == "json":
        print_json(result)
    else:
        rows = [
            [name, str(value) if name in ("split", "num_examples") else format_value(name, value)]
            for name, value in result.items()
            if name != "examples"
        ]
        print_table(["metric", "value"], rows, title=str(run))
