"""Run a study file whole and record what came out beside it: the search, full runs, the test split.

Everything is done by the command line in a temporary folder with its own storage. Trained in full are
the uniform plans of 4, 8 and 16 bits at the middle rank of the search, and of the front the knee, the
best point, and the best point that is smaller than the uniform 4-bit plan, if there is one.

    NAME/front.csv       what `jointsearch front NAME --format csv` prints
    NAME/results.json    the same as numbers, the full runs, the machine and the versions

Run: ``python studies/measured/record.py studies/measured/NAME.yaml > table.md``; the table is Markdown,
progress goes to standard error.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.quickstart.pretrain import cpu_name

BASELINE_BITS = (4, 8, 16)
JOINTSEARCH = Path(sys.executable).with_name("jointsearch")

Row = dict[str, Any]


def run(folder: Path, *words: str, check: bool = True) -> str:
    """What a command prints, run in ``folder``; empty where it fails and ``check`` is False."""
    print(f"$ jointsearch {shlex.join(words)}", file=sys.stderr, flush=True)
    storage = {"JOINTSEARCH_STORAGE": "sqlite:///study.db"}
    command = [str(JOINTSEARCH), *words]
    done = subprocess.run(command, cwd=folder, env=os.environ | storage, stdout=subprocess.PIPE, text=True)
    if done.returncode and check:
        raise SystemExit(f"`jointsearch {shlex.join(words)}` ended with exit status {done.returncode}")
    return "" if done.returncode else done.stdout


def choose(folder: Path, config: StudyConfig, rows: list[Row]) -> dict[int, list[str]]:
    """Why each trial is trained in full, by its number; the baselines come first."""
    chosen: dict[int, list[str]] = {}
    ranks = config.search_space.ranks
    by_label = {row["label"]: row for row in rows}
    for bits in BASELINE_BITS:
        label = f"uniform {bits}-bit rank {ranks[len(ranks) // 2]}"
        if label in by_label:
            chosen.setdefault(by_label[label]["trial"], []).append(label)
    below = by_label[next(iter(chosen.values()))[0]]["model_bytes"] - 1 if chosen else 0
    any_size = max(row["model_bytes"] for row in rows)
    for why, way in {
        "knee": ["--knee"],
        "best of the front": ["--max-bytes", str(any_size)],
        "best below the smallest baseline": ["--max-bytes", str(below)],
    }.items():
        if text := run(folder, "select", config.name, *way, "--format", "json", check=False):
            chosen.setdefault(json.loads(text)["trial"], []).append(why)
    return chosen


def train_in_full(folder: Path, name: str, trial: int) -> Row:
    """Select, export, train and evaluate a trial's plan; its figures without any text of the data."""
    plan, output = f"plan-{trial}.json", f"run-{trial}"
    run(folder, "select", name, "--trial", str(trial))
    run(folder, "export", name, "-o", plan)
    run(folder, "train", plan, "-o", output)
    test = json.loads(run(folder, "evaluate", output, "--format", "json"))
    trained = json.loads((folder / output / "metrics.json").read_text(encoding="utf-8"))
    return {
        "model_bytes": trained["model_bytes"],
        "trainable_parameters": trained["trainable_parameters"],
        "steps": trained["steps"],
        "train_seconds": trained["train_seconds"],
        "validation": trained["validation"],
        "test": {metric: test[metric] for metric in trained["validation"]},
        "test_examples": test["num_examples"],
        "data_notes": trained["data_notes"],
        "versions": trained["versions"],
    }


def table(runs: list[Row], quality: str) -> str:
    """The full runs in Markdown: one line each, test metrics in the last columns."""
    metrics = list(runs[0]["test"])
    sizes = ["MB", "bits/weight"]
    measured = [f"trial {quality}", f"validation {quality}", *(f"test {metric}" for metric in metrics)]
    columns = ["plan", *sizes, *measured, "seconds"]
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    for row in runs:
        name = f"trial {row['trial']} ({', '.join(row['why'])})"
        numbers = [row["trial_quality"], row["validation"][quality], *(row["test"][m] for m in metrics)]
        size = [f"{row['model_bytes'] / 1e6:.3f}", f"{row['bits_per_weight']:.2f}"]
        lines.append([name, *size, *(f"{number:.4f}" for number in numbers), f"{row['train_seconds']:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a study file whole and record what came out.")
    parser.add_argument("study", type=Path, help="the study file")
    parser.add_argument("--trials", type=int, help="instead of the file's number")
    parser.add_argument("--output", type=Path, help="a folder instead of NAME beside the study file")
    args = parser.parse_args()
    config = read_study(args.study)
    output = args.output or args.study.with_name(config.name)
    with tempfile.TemporaryDirectory(prefix="jointsearch-") as name:
        folder = Path(name)
        trials = [] if args.trials is None else ["--trials", str(args.trials)]
        start = time.perf_counter()
        run(folder, "study", "start", str(args.study.resolve()), *trials)
        search_seconds = time.perf_counter() - start
        num_trials = args.trials or config.search.trials
        rows: list[Row] = json.loads(run(folder, "front", config.name, "--format", "json"))
        output.mkdir(parents=True, exist_ok=True)
        (output / "front.csv").write_text(run(folder, "front", config.name, "--format", "csv"))
        by_trial = {row["trial"]: row for row in rows}
        runs = [
            {
                "trial": trial,
                "why": why,
                "bits_per_weight": by_trial[trial]["bits_per_weight"],
                "trial_quality": by_trial[trial][config.quality],
                **train_in_full(folder, config.name, trial),
            }
            for trial, why in choose(folder, config, rows).items()
        ]
    versions = [row.pop("versions") for row in runs].pop()
    results = {
        "command": f"python studies/measured/record.py {shlex.join(sys.argv[1:])}",
        "seeds": {part: getattr(config, part).seed for part in ("search", "calibration", "full_run")},
        "machine": f"{os.cpu_count()} cores of an {cpu_name()}",
        "threads": os.environ.get("OMP_NUM_THREADS", "torch's default"),
        "versions": versions,
        "trials": num_trials,
        "search_seconds": round(search_seconds, 1),
        "seconds_per_trial": round(search_seconds / num_trials, 1),
        "front": [row for row in rows if row["on_front"]],
        "baselines": [row for row in rows if row["label"]],
        "full_runs": runs,
    }
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(runs, config.quality))


if __name__ == "__main__":
    main()
