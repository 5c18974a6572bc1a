"""How well trials foretell finals: whole studies with finals, and a table of their fidelity.

    cd studies/benchmarks
    python finals.py run --out finals.jsonl finals/*.yaml
    python finals.py table finals.jsonl > finals.md

``run`` goes on where it was stopped: the studies are kept in ``--storage``. A line of the output is a trial
(study, steps, plan, name, bytes, loss, seed, seconds), a sweep over learning rates, or a study's fidelity at
one length.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jointsearch.study.stored import StoredStudy

Line = dict[str, Any]

HEAD = """# Do trials foretell finals?

By `python studies/benchmarks/finals.py` (`finals.jsonl`). The search's trials against the same plans trained
anew for longer: Spearman's rank correlation with its 95 % interval (bootstrap over plans), the share of the
plans on either front that is on both, and what choosing by the trials costs at equal bytes, in nats, in the
mean over the longer front. The plans are those of the front and its rivals on the ladder, then what was on
the front of the length before: the hardest to tell apart. One seed. At 960 steps of stories260k there was
time for the smallest ten alone. Of minilm-sst2 two are without adapters, and train a new head alone; the
other nine have no rank correlation at all (-0.02). Its fidelity was taken before the rungs of the ladder next
to its front, and two further seeds of some plans, were run at 300 steps: these are in `finals.jsonl`, too.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("studies", nargs="+", type=Path)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--storage", default="sqlite:///finals.db")
    table = commands.add_parser("table")
    table.add_argument("results", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "table":
        print(table_of([json.loads(line) for line in arguments.results.read_text().splitlines()]), end="")
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    lines = [line for file in arguments.studies for line in measured(file, arguments.storage)]
    arguments.out.write_text("".join(json.dumps(line) + "\n" for line in lines))


def measured(file: Path, storage: str) -> Iterator[Line]:
    """Run the study of a file to its end; its trials, its sweep and its fidelities."""
    from jointsearch.config.yaml_file import read_study
    from jointsearch.starting import Audience, start_study

    yield from lines_of(start_study(read_study(file), storage, Audience()))


def lines_of(study: StoredStudy) -> Iterator[Line]:
    """What a stored study has measured."""
    from jointsearch.search.learning_rate import stored_sweep
    from jointsearch.study.analysis.fidelity import fidelities

    records, own = study.records(), study.config.calibration.steps
    for trial in records.all_complete:
        yield {
            "kind": "trial",
            "study": study.name,
            "steps": trial.steps or own,
            "plan": trial.digest,
            "name": trial.origin.name,
            "bytes": trial.measurement.model_bytes,
            "loss": trial.values["loss"],
            "seed": trial.seed,
            "seconds": round(sum(trial.measurement.seconds.values()), 2),
            "device": trial.measurement.device,
        }
    sweep = stored_sweep(study.optuna_study.user_attrs, study.space.lora)
    if sweep is not None:
        yield {"kind": "sweep", "study": study.name, **sweep.model_dump(mode="json"), "notes": sweep.notes}
    for found in fidelities(records):
        yield {"kind": "fidelity", "study": study.name, "own": own, **asdict(found)}


def table_of(lines: list[Line]) -> str:
    text = HEAD
    sweeps = {line["study"]: line for line in lines if line["kind"] == "sweep"}
    text += "| study | rate (runs) | trials | finals | plans | rank correlation | on both fronts | regret |\n"
    text += "|---|---:|---:|---:|---:|---:|---:|---:|\n"
    for line in lines:
        if line["kind"] != "fidelity":
            continue
        sweep = sweeps.get(line["study"])
        rate = f"{sweep['learning_rate']:g} ({len(sweep['runs'])})" if sweep else "given"
        text += (
            f"| {line['study']} | {rate} | {line['own']} steps | {line['steps']} steps "
            f"| {line['num_plans']} | "
            f"{line['correlation']:.2f} ({line['low']:.2f} to {line['high']:.2f}) | {line['overlap']:.0%} | "
            f"{line['regret']:.4f} |\n"
        )
    trials = [line for line in lines if line["kind"] == "trial"]
    for study in dict.fromkeys(line["study"] for line in trials):
        text += (
            f"\n{study}, on {', '.join(sorted({t['device'] for t in trials if t['study'] == study}))}:\n\n"
        )
        text += "| steps | trials | seconds each (median) |\n|---:|---:|---:|\n"
        by_steps: dict[int, list[float]] = {}
        for trial in trials:
            if trial["study"] == study:
                by_steps.setdefault(trial["steps"], []).append(trial["seconds"])
        for steps, seconds in sorted(by_steps.items()):
            text += f"| {steps} | {len(seconds)} | {sorted(seconds)[len(seconds) // 2]:.1f} |\n"
    return text


if __name__ == "__main__":
    main()
