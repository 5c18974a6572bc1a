"""``jointsearch doctor``: what works on this machine."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from jointsearch.cli.options import format_option, storage_option, trust_option
from jointsearch.cli.tables import print_json, print_table
from jointsearch.config.trust import trusts_remote_code
from jointsearch.errors import StorageError
from jointsearch.plan.formats import FORMATS, OF_BITS
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.storage.urls import redacted
from jointsearch.study.study import study_names
from jointsearch.training.quiet import quiet_libraries

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "optuna",
    "sqlalchemy",
)


@click.command()
@click.option("--model", metavar="ID", help="Show what a search can reach of a model: a Hub id or a folder.")
@click.option("--task", default="causal-lm", show_default=True, help="What the model is adapted to.")
@trust_option
@storage_option
@format_option("table", "json")
def doctor(model: str | None, task: str, storage_url: str, output_format: str) -> None:
    """Show what works on this machine.

    Devices, versions of libraries and the storage are listed, and every bit-width is tried on every device.
    With --model: the model's parts with their parameters and bytes, what stays at 16 bits and why, the share
    that a search reaches, and what its tokenizer does. No weights are read.

    \b
    Example:
      jointsearch doctor
      jointsearch doctor --model HuggingFaceTB/SmolLM2-135M
    """
    if model is not None:
        from jointsearch.cli.model_report import print_report, report_of

        found = report_of(model, task)
        if output_format == "json":
            print_json(found)
        else:
            print_report(found)
        return
    report = {
        "python": sys.version.split()[0],
        **{name: _version(name) for name in ("jointsearch", *LIBRARIES)},
        "code of models": "may run" if trusts_remote_code() else "does not run",
        **_devices(),
        "storage": _storage(storage_url),
    }
    if output_format == "json":
        print_json(report)
    else:
        print_table(["what", "state"], [[name, str(value)] for name, value in report.items()])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, Any]:
    """What training one small layer says, by device and format."""
    try:
        quiet_libraries()
        from jointsearch.training.device_check import available_devices, check_format
    except ImportError as error:
        return {"devices": f"cannot be tried: {error}"}
    shown = {name: f"{bits} bits" for bits, name in OF_BITS.items()}
    return {
        f"{device}, {shown.get(name, name)}": check_format(device, name)
        for device in available_devices()
        for name in FORMATS
    }


def _storage(url: str) -> str:
    try:
        names = study_names(open_storage(url))
    except StorageError as error:
        return str(error)
    return f"{redacted(url)}: {len(names)} studies"
