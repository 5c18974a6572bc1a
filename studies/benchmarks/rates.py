"""How fast a rank learns: losses of uniform plans by scaling, learning rate, rank and number of steps.

A LoRA adapter adds s B A to a weight. Three scalings s of rank r are compared, equal at rank 8:

    alpha      s = 16 / r     a constant alpha, PEFT's convention
    sqrt       s = 2 √8 / √r  rsLoRA's (arXiv 2312.03732)
    constant   s = 2          alpha in proportion to the rank

Every run is a calibration run of its own on a uniform NF4 plan, as a trial of a study is. Runs that are in
the file of results already are not made again.

    python studies/benchmarks/rates.py run STUDY.yaml --out rates.jsonl [--processes 8] [--device cuda]
    python studies/benchmarks/rates.py table rates.jsonl > rates.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import TrialFailed
from jointsearch.runner import Trial

SCALES = {
    "alpha": lambda rank: 16 / rank,
    "sqrt": lambda rank: 2 * (8 / rank) ** 0.5,
    "constant": lambda rank: 2.0,
}
KEYS = ("study", "scaling", "rate", "rank", "steps", "seed")

Job = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("study", type=Path)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--processes", type=int, default=1)
    run.add_argument("--device", default="cpu")
    run.add_argument("--scalings", nargs="+", default=list(SCALES), choices=list(SCALES))
    run.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3, 1e-2, 3e-2])
    run.add_argument("--ranks", nargs="+", type=int, default=[2, 8, 32])
    run.add_argument("--steps", nargs="+", type=int, default=[40, 300, 1000])
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--seconds", type=float, default=float("inf"), help="Begin no run after so long.")
    table = commands.add_parser("table")
    table.add_argument("results", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        measure(arguments)
    else:
        sys.stdout.write(tables(read(arguments.results)))


def measure(arguments: argparse.Namespace) -> None:
    """Make the runs that are not there, the long ones first, in so many processes."""
    name = read_study(arguments.study).name
    there = {tuple(row[key] for key in KEYS) for row in read(arguments.out)}
    grid = itertools.product(
        sorted(arguments.steps, reverse=True),
        arguments.seeds,
        arguments.scalings,
        arguments.rates,
        arguments.ranks,
    )
    jobs = [
        {"study": name, "scaling": scaling, "rate": rate, "rank": rank, "steps": steps, "seed": seed}
        for steps, seed, scaling, rate, rank in grid
    ]
    jobs = [job for job in jobs if tuple(job[key] for key in KEYS) not in there]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    deadline = time.time() + arguments.seconds
    context = multiprocessing.get_context("spawn")
    with (
        context.Pool(arguments.processes, start, (str(arguments.study), arguments.device, deadline)) as pool,
        arguments.out.open("a") as out,
    ):
        for row in pool.imap_unordered(work, jobs):
            if row is not None:
                out.write(json.dumps(row) + "\n")
                out.flush()


_study: StudyConfig
_deadline: float


def start(study: str, device: str, deadline: float) -> None:
    """Of a process: everything that its runs share."""
    global _study, _deadline
    _study = read_study(Path(study)).model_copy(update={"device": device})
    _deadline = deadline


def work(job: Job) -> Job | None:
    """One calibration run; None where there is no time left for it."""
    if time.time() > _deadline:
        return None
    from jointsearch.training.calibration import CalibrationRunner
    from jointsearch.training.model.architecture import read_layout

    layout = read_layout(_study.model, _study.task.type, _study.task.head)
    ranks = sorted({job["rank"]})
    settings = {
        "lora": _study.lora.model_copy(
            update={"alpha_over_rank": SCALES[job["scaling"]](job["rank"]), "alpha": None}
        ),
        "search_space": _study.search_space.model_copy(update={"bits": (4,), "ranks": tuple(ranks)}),
        "calibration": _study.calibration.model_copy(
            update={"steps": job["steps"], "learning_rate": job["rate"], "measure_at": (0.25, 0.5, 0.75)}
        ),
    }
    config = _study.model_copy(update=settings)
    runner = CalibrationRunner(config, layout)
    from jointsearch.space import build_space

    space = build_space(config, layout)
    begun = time.time()
    try:
        found = runner.run(space.plan({}), Trial(job["seed"]))
    except TrialFailed as failure:
        return {**job, "loss": None, "failure": str(failure)}
    curve = [[point.step, point.loss] for point in found.validation_losses]
    return {
        **job,
        "loss": found.metrics["loss"],
        "curve": curve,
        "seconds": round(time.time() - begun, 2),
        "device": found.device,
    }


def read(path: Path) -> list[Job]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tables(rows: list[Job]) -> str:
    """Markdown: mean loss over seeds by scaling, steps and rate; the best rate of each rank in bold."""
    by_study: defaultdict[str, list[Job]] = defaultdict(list)
    for row in rows:
        by_study[row["study"]].append(row)
    return "\n".join(line for name, found in by_study.items() for line in study_table(name, found)) + "\n"


def study_table(name: str, rows: list[Job]) -> Iterator[str]:
    ranks = sorted({row["rank"] for row in rows})
    rates = sorted({row["rate"] for row in rows})
    cells: defaultdict[tuple[Any, ...], list[float | None]] = defaultdict(list)
    for row in rows:
        cells[row["scaling"], row["steps"], row["rate"], row["rank"]].append(row["loss"])
    means = {key: mean(losses) for key, losses in cells.items()}
    seeds = sorted({row["seed"] for row in rows})
    devices = sorted({row.get("device", "") for row in rows} - {""})
    yield f"## {name}\n"
    yield f"Seeds {', '.join(map(str, seeds))}; on {'; '.join(devices)}.\n"
    yield f"| scaling | steps | rate | {' | '.join(f'rank {rank}' for rank in ranks)} |"
    yield "|---|---:|---:|" + "---:|" * len(ranks)
    for scaling, steps in sorted({(row["scaling"], row["steps"]) for row in rows}):
        best = {
            rank: min(
                (rate for rate in rates if means.get((scaling, steps, rate, rank)) is not None),
                key=lambda rate: means[scaling, steps, rate, rank],
                default=None,
            )
            for rank in ranks
        }
        for rate in rates:
            shown = []
            for rank in ranks:
                value = means.get((scaling, steps, rate, rank))
                text = "diverged" if value is None else f"{value:.4f}"
                shown.append(f"**{text}**" if best[rank] == rate else text)
            yield f"| {scaling} | {steps} | {rate:g} | {' | '.join(shown)} |"
    yield ""


def mean(losses: list[float | None]) -> float | None:
    """Over seeds; None where one of them has diverged."""
    return None if None in losses else statistics.fmean(loss for loss in losses if loss is not None)


if __name__ == "__main__":
    main()
