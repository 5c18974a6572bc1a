"""All commands: their names, where they are, and what the lists of ``--help`` say of them.

Nothing is imported here but click. A test holds every summary against its command's own help.
"""

from __future__ import annotations

import click

from jointsearch import __version__
from jointsearch.cli.lazy_group import LazyGroup, Row

_HERE = "jointsearch.cli"

PLAN = (Row("show", f"{_HERE}.plan:show", "Show a plan's bits and ranks, block by block, and its bytes"),)

BANK = (
    Row("list", f"{_HERE}.bank:list_banks", "List this machine's banks of quantized weights"),
    Row("clear", f"{_HERE}.bank:clear", "Delete banks; workers make them again"),
)

STORAGE = (Row("proxy", f"{_HERE}.storage:proxy", "Serve the storage over gRPC, at grpc://HOST:PORT"),)

STUDY = (
    Row("start", f"{_HERE}.study.start:start", "Run the study of a file, or resume it"),
    Row("create", f"{_HERE}.study.start:create", "Create a study for workers that are started elsewhere"),
    Row("list", f"{_HERE}.study.listing:list_studies", "List the stored studies"),
    Row("status", f"{_HERE}.study.status:status", "Show how far a study is, and its workers"),
    Row("pause", f"{_HERE}.study.steering:pause", "Let workers finish their trials and wait"),
    Row("resume", f"{_HERE}.study.steering:resume", "Let workers take trials again"),
    Row("stop", f"{_HERE}.study.steering:stop", "Let workers finish their trials and leave"),
    Row("cancel", f"{_HERE}.study.steering:cancel", "Let workers give their trials back and leave"),
    Row("retry", f"{_HERE}.study.steering:retry", "Put failed trials back into the queue"),
    Row("measure", f"{_HERE}.study.requests:measure", "Have the predicted optimum of a size measured"),
    Row("refine", f"{_HERE}.study.requests:refine", "Measure the front with further seeds"),
    Row("finals", f"{_HERE}.study.requests:finals", "Run the front on for longer"),
    Row("import", f"{_HERE}.study.importing:import_command", "Take over the trials of a compatible study"),
    Row("delete", f"{_HERE}.study.deletion:delete", "Delete a study and its trials"),
)

ROOT = (
    Row("init", f"{_HERE}.init:init", "Write a study file for your own model and data"),
    Row("demo", f"{_HERE}.demo:demo", "Run the embedded study, from the search to a full run"),
    Row("fit", f"{_HERE}.fit:fit", "Show what fits a device, at which batch size"),
    Row("study", f"{_HERE}.commands:study", "Start, watch, steer and delete studies"),
    Row("worker", f"{_HERE}.worker:worker", "Run trials of a stored study, or its full runs"),
    Row("storage", f"{_HERE}.commands:storage", "Serve a storage to many workers"),
    Row("bank", f"{_HERE}.commands:bank", "List and delete this machine's quantized weights"),
    Row("front", f"{_HERE}.front:front", "Show the Pareto front, and whether searching has paid"),
    Row("select", f"{_HERE}.selection:select", "Select a point of a study for its full run"),
    Row("export", f"{_HERE}.export:export", "Write the plan of the selected point as a file"),
    Row("plan", f"{_HERE}.commands:plan", "Look at an exported plan"),
    Row("train", f"{_HERE}.run:train", "Train a plan in full"),
    Row("evaluate", f"{_HERE}.run:evaluate", "Measure a finished full run on its test split"),
    Row("export-model", f"{_HERE}.export_model:export_model", "Write a finished run for what serves it"),
    Row("compare", f"{_HERE}.compare:compare", "Compare named strategies on a study"),
    Row("compare-outputs", f"{_HERE}.outputs:compare_outputs", "Show what two models make of the same texts"),
    Row("dashboard", f"{_HERE}.dashboard:dashboard", "Serve the dashboard of all studies"),
    Row("report", f"{_HERE}.dashboard:report", "Write a study's figures as one HTML file, or pictures"),
    Row("doctor", f"{_HERE}.doctor:doctor", "Show what works on this machine"),
    Row("completion", f"{_HERE}.completion:completion", "Print the script that completes with Tab"),
    Row("schema", f"{_HERE}.schema:schema", "Print the JSON Schema of study files, for editors"),
    Row("help", f"{_HERE}.about:help_command", "Show the help of a command"),
    Row("version", f"{_HERE}.about:version", "Show the version"),
)


@click.group(
    cls=LazyGroup,
    table=ROOT,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="jointsearch")
def cli() -> None:
    """Find how many bits and which LoRA rank each layer of a language model needs.

    \b
    Example:
      jointsearch study start quickstart      # search; needs no network
      jointsearch front quickstart            # quality against bytes
      jointsearch export quickstart -o plan.json
      jointsearch train plan.json -o runs/final
    """


@click.group(cls=LazyGroup, table=STUDY)
def study() -> None:
    """Start, watch, steer and delete studies.

    \b
    Example:
      jointsearch study start quickstart --trials 8
      jointsearch study list
    """


@click.group(cls=LazyGroup, table=PLAN)
def plan() -> None:
    """Look at an exported plan.

    \b
    Example:
      jointsearch plan show plan.json
    """


@click.group(cls=LazyGroup, table=BANK)
def bank() -> None:
    """List and delete this machine's quantized weights.

    The first worker of a study quantizes its model into a bank, in the cache folder; all workers of
    the machine use it. A bank can be deleted at any time: it is made again when it is needed.

    \b
    Example:
      jointsearch bank list
      jointsearch bank clear
    """


@click.group(cls=LazyGroup, table=STORAGE)
def storage() -> None:
    """Serve a storage to many workers.

    \b
    Example:
      jointsearch storage proxy --storage postgresql://host/studies
    """
