"""``jointsearch study list``, and what it says of each study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jointsearch.cli.options import format_option, storage_option
from jointsearch.cli.tables import print_json, print_table
from jointsearch.cli.telling import tell
from jointsearch.config.study import is_folder_id
from jointsearch.errors import one_line
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import open_study, read_each, study_names


@click.command("list")
@storage_option
@format_option("table", "json")
def list_studies(storage_url: str, output_format: str) -> None:
    """List the stored studies.

    \b
    Example:
      jointsearch study list --format json
    """
    storage = open_storage(storage_url)

    def read(name: str) -> dict[str, Any]:
        study = open_study(storage, name)
        return summary_of(study, study.records())

    rows, unreadable = read_each(study_names(storage), read)
    for line in unreadable:
        tell(one_line(line))
    if output_format == "json":
        print_json(rows)
        return
    counts = ("complete", "running", "failed", "of")
    lines = [
        [row["name"], _short(row["model"]), row["task"], *(str(row[key]) for key in counts)] for row in rows
    ]
    columns = ["name", "model", "task", "complete", "running", "failed", "trials"]
    print_table(columns, lines, drop=("task", "model"))


def summary_of(study: StoredStudy, records: StudyRecords) -> dict[str, Any]:
    """A study on one line."""
    return {
        "name": study.name,
        "model": study.config.model.id,
        "task": study.config.task.type,
        "objectives": list(study.config.objectives),
        "complete": len(records.complete),
        "stopped_early": len(records.pruned),
        "running": len(records.running),
        "failed": len(records.failed),
        "of": study.config.search.trials,
    }


def _short(model_id: str) -> str:
    """Of a folder its name alone."""
    return Path(model_id).name if is_folder_id(model_id) else model_id
