"""``jointsearch study status``: how far a study is, once or all the time."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from jointsearch.cli.common import format_option, print_json, print_table, storage_option

if TYPE_CHECKING:
    from jointsearch.study.full_runs import FullRun
    from jointsearch.study.records import StudyRecords
    from jointsearch.study.study import JointStudy

POLL_SECONDS = 2.0


@click.command()
@click.argument("name")
@click.option("--watch", is_flag=True, help="Go on until the study has all its trials, or Ctrl-C.")
@storage_option
@format_option("table", "json")
def status(name: str, watch: bool, storage_url: str, output_format: str) -> None:
    """Show how far study NAME is, its workers and their heartbeats, its best trial, why trials failed, and
    how its full runs stand.

    \b
    Example:
      jointsearch study status quickstart
      jointsearch study status quickstart --watch
    """
    from jointsearch.study.study import load_study

    found = load_study(name, storage_url)
    while True:
        current = _status(found)
        if watch and sys.stdout.isatty():
            click.clear()
        if output_format == "json" and watch:
            click.echo(json.dumps(current))  # one line each time
        elif output_format == "json":
            print_json(current)
        else:
            _print(name, current)
        if not watch or current["left"] == 0:
            return
        time.sleep(POLL_SECONDS)


def summary_of(found: JointStudy) -> dict[str, Any]:
    """A study on one line."""
    records = found.records()
    return {
        "name": found.name,
        "model": found.config.model.id,
        "task": found.config.task.type,
        "objectives": list(found.config.objectives),
        "complete": len(records.complete),
        "stopped_early": len(records.pruned),
        "running": len(records.running),
        "failed": len(records.failed),
        "of": found.config.search.trials,
    }


def _probe_correlation(found: JointStudy, records: StudyRecords) -> float | None:
    """Imports what fits the model only for a study that has a probe: SciPy takes its time."""
    from jointsearch.search.attributes import PROBE

    if PROBE not in found.optuna_study.user_attrs:
        return None
    from jointsearch.study.analysis.prediction import probe_correlation

    return probe_correlation(found, records)


def _status(found: JointStudy) -> dict[str, Any]:
    from jointsearch.study.analysis.progress import Snapshot, running_trials
    from jointsearch.study.control import wanted

    records = found.records()
    snapshot = Snapshot.of(records, found.config.search.trials)
    return summary_of(found) | {
        "waiting": len(records.waiting),
        "left": records.num_left(found.config.search.trials),
        "wanted": wanted(found.optuna_study).value,
        "front": [trial.number for trial in records.front],
        "selected": found.selection,
        "best": snapshot.best,
        "hypervolume": snapshot.hypervolume,
        "steps_saved": records.share_saved(found.config.calibration.steps),
        "probe_correlation": _probe_correlation(found, records),
        "trials_per_hour": snapshot.trials_per_hour,
        "seconds_left": snapshot.seconds_left,
        "workers": [asdict(trial) for trial in running_trials(found)],
        "failures": {str(trial.number): trial.failure for trial in records.failed},
        "full_runs": [_full_run(run) for run in found.full_runs().values()],
    }


def _full_run(run: FullRun) -> dict[str, Any]:
    written = run.model_dump(mode="json", exclude={"selection", "measurement"})
    metrics = run.measurement.metrics if run.measurement else None
    return {"trial": run.trial, "note": run.selection.note, **written, "metrics": metrics}


def _print(name: str, current: dict[str, Any]) -> None:
    workers, failures, full_runs = (current.pop(key) for key in ("workers", "failures", "full_runs"))
    rows = [[key, _text(value)] for key, value in current.items()]
    rows += [[f"trial {number} failed", reason] for number, reason in failures.items()]
    print_table(["", name], rows)
    if workers:
        lines = [
            [
                worker["worker"] or "-",
                str(worker["trial"]),
                worker["label"],
                _duration(worker["seconds"]),
                _duration(worker["heartbeat_age_seconds"]),
            ]
            for worker in workers
        ]
        print_table(["worker", "trial", "", "running for", "last heartbeat"], lines)

    if full_runs:
        lines = [
            [str(run["trial"]), run["note"], run["state"], _how_far(run), run["folder"]] for run in full_runs
        ]
        print_table(["full run", "note", "state", "", "folder"], lines)


def _how_far(run: dict[str, Any]) -> str:
    from jointsearch.front.objectives import format_value

    if run["metrics"]:
        return ", ".join(f"{name} {format_value(name, value)}" for name, value in run["metrics"].items())
    if run["failure"]:
        return str(run["failure"])
    return f"step {run['step']}/{run['num_steps']}, {run['worker']}" if run["num_steps"] else run["worker"]


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)
