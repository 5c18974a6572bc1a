"""``jointsearch study status``: how far a study is, once or all the time."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from jointsearch.cli.options import format_option, name_argument, storage_option
from jointsearch.cli.study.listing import summary_of
from jointsearch.cli.tables import print_json, print_table
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.search.attributes import PROBE
from jointsearch.search.learning_rate import stored_sweep
from jointsearch.study.analysis.progress import Snapshot, running_trials
from jointsearch.study.control import Wanted, wanted
from jointsearch.study.full_runs import FullRun, full_runs, selected
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import load_study

POLL_SECONDS = 2.0

WORKERS_ARE_TO = {
    Wanted.RUN: "take trials",
    Wanted.PAUSE: "finish their trials and wait",
    Wanted.STOP: "finish their trials and leave",
    Wanted.CANCEL: "give their trials back and leave",
}


@click.command()
@name_argument
@click.option("--watch", is_flag=True, help="Go on until the study has all its trials, or Ctrl-C.")
@storage_option
@format_option("table", "json")
def status(name: str, watch: bool, storage_url: str, output_format: str) -> None:
    """Show how far a study is, and its workers.

    Of study NAME: the trials, the best one, why trials have failed, what each worker is at and when its
    last heartbeat was, and how the full runs stand.

    \b
    Example:
      jointsearch study status quickstart
      jointsearch study status quickstart --watch
    """
    study = load_study(name, storage_url)
    while True:
        current = _status(study)
        if watch and sys.stdout.isatty():
            click.clear()
        if output_format == "json" and watch:
            click.echo(json.dumps(current))  # one line each time
        elif output_format == "json":
            print_json(current)
        else:
            _print(current)
        if not watch or current["left"] == 0:
            return
        time.sleep(POLL_SECONDS)


def _status(study: StoredStudy) -> dict[str, Any]:
    records = study.records()
    snapshot = Snapshot.of(records, study.config.search.trials, study.config.calibration.steps)
    return summary_of(study, records) | {
        "waiting": len(records.waiting),
        "left": records.num_left(study.config.search.trials),
        "wanted": wanted(study.optuna_study).value,
        "front": [trial.number for trial in records.answer.front],
        "training_memory": [trial.measurement.training_memory for trial in records.answer.front],
        "finals": {str(steps): len(records.at(steps).complete) for steps in records.lengths},
        "fidelity": _fidelity(records),
        "selected": selected(study.optuna_study),
        "best": snapshot.best,
        "hypervolume": snapshot.hypervolume,
        "learning_rate": _learning_rate(study),
        "learning_rates": _learning_rates(study, records),
        "steps_saved": records.share_saved(study.config.calibration.steps),
        "probe_correlation": _probe_correlation(study, records),
        "trials_per_hour": snapshot.trials_per_hour,
        "seconds_left": snapshot.seconds_left,
        "workers": [asdict(trial) for trial in running_trials(study)],
        "failures": {str(trial.number): trial.failure for trial in records.failed},
        "full_runs": [_full_run(run) for run in full_runs(study.optuna_study.user_attrs).values()],
    }


def _fidelity(records: StudyRecords) -> list[dict[str, Any]]:
    """How well trials have foretold finals, by their length."""
    if not records.lengths:
        return []
    from jointsearch.study.analysis.fidelity import fidelities  # it takes SciPy a while

    return [asdict(found) | {"sentence": found.sentence} for found in fidelities(records)]


def _learning_rate(study: StoredStudy) -> dict[str, Any] | None:
    """The sweep for the study's own adapters, as far as it has come."""
    sweep = stored_sweep(study.optuna_study.user_attrs, study.space.lora)
    if sweep is None:
        return None
    return {"found": sweep.learning_rate, "best": sweep.best, "runs": len(sweep.runs), "notes": sweep.notes}


def _learning_rates(study: StoredStudy, records: StudyRecords) -> dict[str, int]:
    """How many complete trials each of the searched rates has; empty where none is searched."""
    used = Counter(trial.learning_rate for trial in records.all_complete)
    return {f"{rate:g}": used[rate] for rate in study.space.learning_rates}


def _probe_correlation(study: StoredStudy, records: StudyRecords) -> float | None:
    if PROBE not in study.optuna_study.user_attrs:
        return None
    from jointsearch.study.analysis.prediction import probe_correlation  # it takes SciPy a while

    return probe_correlation(study, records)


def _full_run(run: FullRun) -> dict[str, Any]:
    written = run.model_dump(mode="json", exclude={"selection", "measurement"})
    metrics = run.measurement.metrics if run.measurement else None
    return {"trial": run.trial, "note": run.selection.note, **written, "metrics": metrics}


def _print(current: dict[str, Any]) -> None:
    rows = [[label, text] for label, text in _in_words(current).items()]
    rows += [["fidelity", found["sentence"]] for found in current["fidelity"]]
    rows += [["note", note] for note in (current["learning_rate"] or {}).get("notes", ())]
    rows += [[f"trial {number} failed", reason] for number, reason in current["failures"].items()]
    print_table(["study", current["name"]], rows)
    if current["workers"]:
        lines = [
            [
                worker["worker"] or "-",
                str(worker["trial"]),
                worker["label"],
                _duration(worker["seconds"]),
                _duration(worker["heartbeat_age_seconds"]),
            ]
            for worker in current["workers"]
        ]
        columns = ["worker", "trial", "plan", "running for", "last heartbeat"]
        print_table(columns, lines, drop=("plan", "last heartbeat"))
    if current["full_runs"]:
        lines = [
            [str(run["trial"]), run["note"], run["state"], _how_far(run), run["folder"]]
            for run in current["full_runs"]
        ]
        print_table(["full run", "note", "state", "result", "folder"], lines, drop=("folder",))


def _in_words(current: dict[str, Any]) -> dict[str, str]:
    """What the table says of the study itself, line by line."""
    found = {
        "model": current["model"],
        "task": current["task"],
        "objectives": ", ".join(current["objectives"]),
        "trials": _counts(current),
        "workers are to": WORKERS_ARE_TO[Wanted(current["wanted"])],
        "front": f"trials {', '.join(map(str, current['front']))}" if current["front"] else "-",
        **_memory(current["training_memory"]),
        "selected": "-" if current["selected"] is None else f"trial {current['selected']}",
        "best": current["best"],
        "hypervolume": _number(current["hypervolume"], ".3f"),
        "trials per hour": _number(current["trials_per_hour"], ".1f"),
        "time left": _duration(current["seconds_left"]),
    }
    if current["finals"]:
        each = ", ".join(f"{count} of {steps} steps" for steps, count in current["finals"].items())
        found["finals"] = f"{each}; the front is that of the longest whole ones"
    if (rate := current["learning_rate"]) is not None:
        so_far = "looked for" if rate["found"] is None else f"{rate['found']:g}"
        found["learning rate"] = f"{so_far} (a sweep of {rate['runs']} runs)"
    if current["learning_rates"]:
        each = ", ".join(f"{rate} in {count}" for rate, count in current["learning_rates"].items())
        found["rates searched"] = f"{each} complete trials; what needs no search has the sweep's"
    if current["steps_saved"]:
        found["early stopping"] = f"spared {current['steps_saved']:.0%} of the training steps"
    if current["probe_correlation"] is not None:
        found["probe"] = f"rank correlation with the trials {current['probe_correlation']:.2f}"
    return found


def _memory(of_front: list[int]) -> dict[str, str]:
    """What training the front's plans takes, where it is foretold."""
    if not any(of_front):
        return {}
    low, high = (format_bytes(end) for end in (min(of_front), max(of_front)))
    return {"memory to train": low if low == high else f"{low} to {high}"}


def _counts(current: dict[str, Any]) -> str:
    counts = {
        "complete": current["complete"],
        "stopped early": current["stopped_early"],
        "failed": current["failed"],
        "running": current["running"],
        "waiting": current["waiting"],
    }
    shown = [f"{count} {state}" for state, count in counts.items() if count or state == "complete"]
    return f"{', '.join(shown)}; {current['left']} left (the search has {current['of']})"


def _how_far(run: dict[str, Any]) -> str:
    if run["metrics"]:
        return ", ".join(f"{name} {format_value(name, value)}" for name, value in run["metrics"].items())
    if run["failure"]:
        return str(run["failure"])
    return f"step {run['step']}/{run['num_steps']}, {run['worker']}" if run["num_steps"] else run["worker"]


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
