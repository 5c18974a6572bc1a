"""``jointsearch front``: the Pareto front of a study, beside the uniform plans and what is predicted."""

from __future__ import annotations

import csv
import sys
from typing import Any

import click

from jointsearch.cli.options import format_option, name_argument, storage_option
from jointsearch.cli.tables import print_json, print_tables
from jointsearch.errors import StudyError, visible
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.study.analysis.front_table import front_rows, front_table
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.plans import records_with_front
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import load_study

OWN_COLUMNS = ("model_bytes", "training_memory", "peak_memory_bytes")
"""Objectives that the table shows anyway."""


@click.command()
@name_argument
@click.option("--predicted", is_flag=True, help="Also the front that the model of all trials predicts.")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="As trials of N steps have measured it."
)
@storage_option
@format_option("table", "json", "csv")
def front(name: str, predicted: bool, steps: int | None, storage_url: str, output_format: str) -> None:
    """Show the Pareto front, and whether searching has paid.

    The uniform and named plans of study NAME stand beside it. Where the study has finals (`study finals`)
    it is the front of the longest ones. On a terminal that is too narrow these columns are left out, in this
    order: peak memory, trainable, bits/weight, to train, further objectives. 'To train' is the memory that a
    step of training takes, as it is foretold.

    With --predicted, JSON is an object with the keys measured, predicted and verdict, and CSV has the
    predicted front alone.

    \b
    Example:
      jointsearch front quickstart
      jointsearch front quickstart --format csv > front.csv
      jointsearch front quickstart --predicted
    """
    study = load_study(name, storage_url)
    records = records_with_front(study)
    if steps is not None:
        records = _of_length(study, records, steps)
    verdict = judge(study, records)
    rows = front_rows(front_table(study, records), verdict)
    foreseen = []
    if predicted:
        from jointsearch.cli.predicted_front import predicted_rows, print_predicted  # it takes SciPy a while

        foreseen = predicted_rows(study, records)
    if output_format == "json":
        whole = {"measured": rows, "predicted": foreseen, "verdict": verdict.sentence}
        print_json(whole if predicted else rows)
    elif output_format == "csv":
        rows = foreseen or rows
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: visible(value) if isinstance(value, str) else value for key, value in row.items()}
            for row in rows
        )
    else:
        _print_measured(study, records, rows)
        if foreseen:
            print_predicted(study, foreseen)
        click.echo(visible(verdict.sentence))


def _of_length(study: StoredStudy, records: StudyRecords, steps: int) -> StudyRecords:
    """Raises ``StudyError`` where nothing was measured by trials of so many steps."""
    own = study.config.calibration.steps
    found = records.at(None if steps == own else steps)
    if not found.front:
        lengths = ", ".join(map(str, (own, *records.lengths)))
        raise StudyError(f"--steps must be a length that trials have had ({lengths}), but got {steps}")
    return found


def _print_measured(study: StoredStudy, records: StudyRecords, rows: list[dict[str, Any]]) -> None:
    quality, *others = (name for name in study.config.objectives if name not in OWN_COLUMNS)
    foretold = ["to train"] if any(row["training_memory"] for row in rows) else []
    columns = ["trial", quality, *others, "size", *foretold, "bits/weight", "trainable", "peak memory", ""]
    length = f", finals of {records.steps} steps" if records.steps else ""
    tables = {
        f"Pareto front of '{study.name}'{length}": [row for row in rows if row["on_front"]],
        "Uniform and named plans that are not on it": [
            row for row in rows if not (row["on_front"] or row["fallen"])
        ],
        "Points that further seeds took off the front": [row for row in rows if row["fallen"]],
    }
    lines = {
        title: [
            [
                str(row["trial"]),
                *(format_value(name, row[name]) for name in (quality, *others)),
                format_bytes(row["model_bytes"]),
                *(format_bytes(row["training_memory"]) for _ in foretold),
                f"{row['bits_per_weight']:.2f}",
                f"{row['trainable_share']:.2%}",
                format_bytes(row["peak_memory_bytes"]),
                _note(row, quality),
            ]
            for row in shown
        ]
        for title, shown in tables.items()
        if shown
    }
    drop = ("peak memory", "trainable", "bits/weight", *foretold, *reversed(others))
    print_tables(columns, lines, drop=drop)


def _note(row: dict[str, Any], quality: str) -> str:
    notes = [
        row["label"],
        _spread(row, quality),
        _comparison(row, quality),
        "knee" if row["knee"] else "",
        "selected" if row["selected"] else "",
        f"learning rate {row['learning_rate']:g}" if "learning_rate" in row else "",
    ]
    return ", ".join(note for note in notes if note)


def _spread(row: dict[str, Any], quality: str) -> str:
    if row["standard_error"] is None:
        return ""
    return f"± {format_value(quality, row['standard_error'])} ({row['num_seeds']} seeds)"


def _comparison(row: dict[str, Any], quality: str) -> str:
    """How much better than its rival of equal bytes, where further seeds can tell."""
    if row["p_value"] is None:
        return ""
    way = "better" if row["gain"] >= 0 else "worse"
    ahead = f"{format_value(quality, abs(row['gain']))} {way} than {row['compared_to']}"
    return f"{ahead} (p = {row['p_value']:.2g})"
