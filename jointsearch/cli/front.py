"""``jointsearch front``, ``select`` and ``export``: from a study's trials to one plan."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jointsearch.cli.common import format_option, print_json, print_table, storage_option

if TYPE_CHECKING:
    from jointsearch.measurement import Measurement
    from jointsearch.study.analysis.verdict import Verdict
    from jointsearch.study.records import StudyRecords
    from jointsearch.study.study import JointStudy


@click.command()
@click.argument("name")
@click.option("--predicted", is_flag=True, help="Also the front that the model of all trials predicts.")
@storage_option
@format_option("table", "json", "csv")
def front(name: str, predicted: bool, storage_url: str, output_format: str) -> None:
    """Show the Pareto front of study NAME, the uniform plans beside it, and whether searching has paid.

    With --predicted, JSON is an object with the keys measured, predicted and verdict, and CSV has the
    predicted front alone.

    \b
    Example:
      jointsearch front quickstart
      jointsearch front quickstart --format csv > front.csv
      jointsearch front quickstart --predicted
    """
    from jointsearch.study.analysis.verdict import judge

    found = _open(name, storage_url)
    records = found.front()
    verdict = judge(found, records)
    rows = _rows(found, records, verdict)
    foreseen = _predicted_rows(found, records) if predicted else []
    if output_format == "json":
        whole = {"measured": rows, "predicted": foreseen, "verdict": verdict.sentence}
        print_json(whole if predicted else rows)
    elif output_format == "csv":
        rows = foreseen or rows
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print_front(found, rows)
        if foreseen:
            _print_predicted(found, foreseen)
        click.echo(verdict.sentence)


@click.command()
@click.argument("name")
@click.option("--max-bytes", metavar="SIZE", help="The best point of at most this size, such as 600kB.")
@click.option("--max-loss", type=float, help="The smallest point with at most this loss.")
@click.option("--quality", "bound", type=float, help="The smallest point at least this good, in any metric.")
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
    bound: float | None,
    knee: bool,
    trial: int | None,
    withdraw: int | None,
    note: str,
    storage_url: str,
    output_format: str,
) -> None:
    """Select a point of study NAME: `worker --full-runs` trains all that are, `export` writes the last.

    One whose full run has failed is trained again if it is selected again.

    \b
    Example:
      jointsearch select quickstart --max-bytes 1.5MB
      jointsearch select quickstart --knee --note "for the phone"
    """
    from jointsearch.front.selection import at_knee, parse_bytes, within_bytes, within_quality

    ways = {
        "--max-bytes": max_bytes,
        "--max-loss": max_loss,
        "--quality": bound,
        "--knee": knee or None,
        "--trial": trial,
        "--withdraw": withdraw,
    }
    given = [way for way, value in ways.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError(f"give exactly one of {', '.join(ways)}, but got {given or 'none'}")
    found = _open(name, storage_url)
    if withdraw is not None:
        found.withdraw(withdraw)
        if output_format == "json":
            print_json({"withdrawn": withdraw})
        else:
            click.echo(f"trial {withdraw} is not selected any more")
        return
    quality = found.config.quality
    if max_loss is not None and quality != "loss":
        raise click.UsageError(
            f"--max-loss needs a study with the objective loss, but it has {quality}; use --quality"
        )
    bound = max_loss if bound is None else bound
    if max_bytes is not None:
        try:
            budget = parse_bytes(max_bytes)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--max-bytes") from None
        trial = within_bytes(found.front().front_points, budget, quality).trial
    elif bound is not None:
        trial = within_quality(found.front().front_points, bound, quality).trial
    elif knee:
        trial = at_knee(found.front().front_points, quality).trial
    assert trial is not None
    chosen = found.complete_trial(trial)
    found.select(trial, note)
    if output_format == "json":
        print_json({"trial": trial, **chosen.values})
    else:
        from jointsearch.study.analysis.progress import describe

        click.echo(f"selected {describe(chosen)}")


@click.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write it.")
@storage_option
def export(name: str, output: Path, storage_url: str) -> None:
    """Write the selected point of study NAME (or the knee of its front) as plan.json.

    \b
    Example:
      jointsearch export quickstart -o plan.json
    """
    from jointsearch.front.objectives import format_bytes
    from jointsearch.plan.plan_file import write_plan

    plan = _open(name, storage_url).plan_file()
    write_plan(plan, output)
    assert plan.origin is not None
    size = format_bytes(plan.cost.model_bytes)
    click.echo(f"wrote {output}: trial {plan.origin.trial} of '{name}', {size}", err=True)


def _open(name: str, storage_url: str) -> JointStudy:
    from jointsearch.study.study import load_study

    return load_study(name, storage_url)


def _rows(found: JointStudy, records: StudyRecords, verdict: Verdict) -> list[dict[str, Any]]:
    """The front by rising bytes, then the baselines, then the points that did not survive."""
    from jointsearch.front.selection import at_knee
    from jointsearch.plan.cost import plan_cost

    selection = found.selection
    on_front = {trial.number for trial in records.front}
    knee = at_knee(records.front_points, found.config.quality).trial
    others = {trial.number: trial for trial in records.baselines if trial.number not in on_front}
    fallen = {trial.number: trial for trial in verdict.fallen}
    compared = {entry.point.number: entry for entry in verdict.comparisons}
    rows = []
    for trial in (*records.front, *(others | fallen).values()):
        comparison = compared.get(trial.number)
        cost = plan_cost(found.layout, trial.trained_plan)
        rows.append(
            {
                "trial": trial.number,
                "on_front": trial.number in on_front,
                **trial.values,
                "model_bytes": cost.model_bytes,
                "bytes_per_parameter": round(cost.bytes_per_parameter, 4),
                "bits_per_weight": round(cost.bits_per_weight, 3),
                "trainable_parameters": cost.trainable_parameters,
                "trainable_share": round(cost.trainable_share, 5),
                **_measured(trial.measurement),
                "label": trial.label,
                "num_seeds": len(trial.trials),
                "standard_error": trial.standard_error(found.config.quality),
                "fallen": trial.number in fallen,
                "compared_to": comparison.baseline.label if comparison and comparison.baseline else "",
                "gain": comparison.gain if comparison else None,
                "confidence": comparison.confidence if comparison else None,
                "significant": comparison.significant if comparison else False,
                "knee": trial.number == knee,
                "selected": trial.number == selection,
            }
        )
    return rows


def _measured(measurement: Measurement) -> dict[str, Any]:
    """What a trial reports beside its objectives."""
    stability = measurement.stability
    return {
        **{f"validation_{name}": round(value, 6) for name, value in measurement.metrics.items()},
        "peak_memory_bytes": measurement.peak_memory_bytes,
        "seconds_per_epoch": round(measurement.seconds_per_epoch, 3),
        "tokens_per_second": round(measurement.tokens_per_second, 1),
        "inference_rate": round(measurement.inference_rate, 1),
        "nonfinite_steps": stability.nonfinite_steps,
        "largest_gradient_norm": round(stability.largest_gradient_norm, 4),
        "loss_spikes": stability.loss_spikes,
    }


def _print_front(found: JointStudy, rows: list[dict[str, Any]]) -> None:
    from jointsearch.front.objectives import format_bytes, format_value

    shown = ("model_bytes", "peak_memory_bytes")  # have columns of their own
    objectives = [name for name in found.config.objectives if name not in shown]
    columns = ["trial", *objectives, "size", "bits/weight", "trainable", "peak memory", ""]
    titles = {
        f"Pareto front of '{found.name}'": lambda row: row["on_front"],
        "Uniform and named plans that are not on it": lambda row: not (row["on_front"] or row["fallen"]),
        "Points that further seeds took off the front": lambda row: row["fallen"],
    }
    for title, belongs in titles.items():
        lines = []
        for row in filter(belongs, rows):
            notes = [
                row["label"],
                _spread(row, found.config.quality),
                _comparison(row, found.config.quality),
                "knee" if row["knee"] else "",
                "selected" if row["selected"] else "",
            ]
            lines.append(
                [
                    str(row["trial"]),
                    *(format_value(name, row[name]) for name in objectives),
                    format_bytes(row["model_bytes"]),
                    f"{row['bits_per_weight']:.2f}",
                    f"{row['trainable_share']:.2%}",
                    format_bytes(row["peak_memory_bytes"]),
                    ", ".join(note for note in notes if note),
                ]
            )
        if lines:
            print_table(columns, lines, title=title)


def _spread(row: dict[str, Any], quality: str) -> str:
    from jointsearch.front.objectives import format_value

    if row["standard_error"] is None:
        return ""
    return f"± {format_value(quality, row['standard_error'])} ({row['num_seeds']} seeds)"


def _comparison(row: dict[str, Any], quality: str) -> str:
    """How much better than the uniform plan, where further seeds can tell."""
    from jointsearch.front.objectives import format_value

    if row["confidence"] is None:
        return ""
    ahead = f"{format_value(quality, row['gain'])} better than {row['compared_to']}"
    return f"{ahead} ({row['confidence']:.1%})"


def _predicted_rows(found: JointStudy, records: StudyRecords) -> list[dict[str, Any]]:
    from jointsearch.study.analysis.prediction import predict_front

    measured = {point.digest: point.number for point in records.measured}
    rows = []
    for point in predict_front(found, records):
        digest = found.space.plan(point.values).digest
        rows.append(
            {
                "model_bytes": point.model_bytes,
                found.config.quality: point.quality,
                "low": point.low,
                "high": point.high,
                "trial": measured.get(digest),
                "digest": digest,
            }
        )
    return rows


def _print_predicted(found: JointStudy, rows: list[dict[str, Any]]) -> None:
    from jointsearch.front.objectives import format_bytes, format_value
    from jointsearch.search.additive.predicted_front import CREDIBLE

    quality = found.config.quality
    lines = [
        [
            format_bytes(row["model_bytes"]),
            *(format_value(quality, row[name]) for name in (quality, "low", "high")),
            "" if row["trial"] is None else f"measured: trial {row['trial']}",
        ]
        for row in rows
    ]
    band = [f"{(1 - CREDIBLE) / 2:.0%}", f"{(1 + CREDIBLE) / 2:.0%}"]
    print_table(["size", quality, *band, ""], lines, title=f"Predicted front of '{found.name}'")
