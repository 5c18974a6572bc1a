"""How often trials are better than early stopping has foretold, and what it saves, on recorded studies.

``python studies/benchmarks/early_stopping.py > studies/benchmarks/early_stopping.md``

Recorded are studies of 60 trials with several samplers and three seeds, on a 260-thousand-parameter Llama and
on the quickstart's model: ``early_stopping-runs.jsonl`` has their trials,
``early_stopping-measurements.jsonl`` every plan's losses at its rungs and CPU seconds until then. Each was
measured to its end. Each trial of the search is forecast at its rungs by the trials before it alone, as in a
study; it was better if its loss is below the best of no more bytes by then. A forecast is honest where not
more are better than it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from jointsearch.front.pareto import is_on_front
from jointsearch.study.worker.early_stopping import MIN_TRIALS, RISK, WIDENING, Forecast

FOLDER = Path(__file__).parent
BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
WIDENINGS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5)

Row = dict[str, Any]
Floats = NDArray[np.float64]


def rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def measurements() -> dict[tuple[str, str, int], Row]:
    """By study, plan and seed."""
    return {
        (row["study"], row["plan"], row["seed"]): row for row in rows("early_stopping-measurements.jsonl")
    }


def forecasts() -> Iterator[tuple[str, float, int, bool]]:
    """Study, the bound's distance from the forecast in units of its spread as fitted, degrees of freedom,
    and whether the trial was better."""
    measured = measurements()
    for run in rows("early_stopping-runs.jsonl"):
        finished: dict[str, Row] = {}
        for trial in run["trials"]:
            line = measured.get((run["study"], trial["plan"], run["seed"]))
            if line is None or trial["plan"] in finished:
                continue
            rivals = [other["loss"] for other in finished.values() if other["bytes"] <= line["bytes"]]
            for rung, (_, loss, _) in enumerate(line["rungs"] if rivals and not trial["uniform"] else []):
                others = [other for other in finished.values() if len(other["rungs"]) > rung]
                pairs = [(other["rungs"][rung][1], other["loss"]) for other in others]
                forecast = Forecast.of([x for x, _ in pairs], [y for _, y in pairs])
                if forecast:
                    spread = float(forecast.scale(loss)) / WIDENING
                    distance = (min(rivals) - float(forecast.mean(loss))) / spread
                    yield run["study"], distance, forecast.degrees_of_freedom, line["loss"] < min(rivals)
            finished[trial["plan"]] = line


def main() -> None:
    studies, distances, freedoms, better = (np.array(column) for column in zip(*forecasts(), strict=True))
    print(f"# Forecasts of early stopping\n\nSee `early_stopping.py`. {len(better)} forecasts at rungs.\n")
    print("Stated chance that a trial will be better, and the share that was (number of forecasts):\n")
    for study in np.unique(studies):
        mine = studies == study
        print(f"## {study}\n")
        print_row("stated", "as fitted", f"shipped: {WIDENING:g} times as wide")
        print_row(*["---"] * 3)
        columns = [student.cdf(distances[mine] / wide, freedoms[mine]) for wide in (1.0, WIDENING)]
        for low, high in pairwise(BINS):
            cells = []
            for chances in columns:
                inside = (chances >= low) & (chances < high)
                share = f"{better[mine][inside].mean():.1%} of {inside.sum()}" if inside.any() else ""
                cells.append(share and f"{chances[inside].mean():.1%} → {share}")
            print_row(f"{low:.0%} to {high:.0%}", *cells)
        for wide, chances in zip(("as fitted", "shipped"), columns, strict=True):
            stopped = chances < RISK
            print(
                f"\n{wide}: {stopped.mean():.1%} of forecasts stop a trial; "
                f"{better[mine][stopped].sum()} of these {stopped.sum()} would have been better."
            )
        print()
    print("## Chosen on one study, tried on the other\n")
    print("The smallest width at which no bin of one study is too sure of itself, and the bins of the other ")
    print("that then are.\n")
    print_row("chosen on", "width", "tried on", "bins that are too sure")
    print_row(*["---"] * 4)
    for study in np.unique(studies):
        mine = studies == study
        honest = [w for w in WIDENINGS if not too_sure(distances[mine], freedoms[mine], better[mine], w)]
        wide = min(honest, default=max(WIDENINGS))
        rest = too_sure(distances[~mine], freedoms[~mine], better[~mine], wide)
        others = ", ".join(name for name in np.unique(studies) if name != study)
        print_row(study, f"{wide:g}", others, "; ".join(rest) or "none")
    print_savings()


def print_savings() -> None:
    """The shipped rule, replayed on the trials of every sampler; and what no rule can better: a stop at the
    first rung of all that end off the front."""
    print("\n## What stopping saves\n")
    print_row(
        "study", "sampler", "trials stopped", "points of the fronts lost", "CPU seconds saved", "at most"
    )
    print_row(*["---"] * 6)
    measured, runs = measurements(), rows("early_stopping-runs.jsonl")
    for study, sampler in sorted({(run["study"], run["variant"]) for run in runs}):
        of_both = [run for run in runs if (run["study"], run["variant"]) == (study, sampler)]
        lines = [[measured[study, t["plan"], run["seed"]] for t in run["trials"]] for run in of_both]
        found = [savings(run, known) for run, known in zip(of_both, lines, strict=True)]
        stopped, lost, on_front, saved, most, spent = (sum(column) for column in zip(*found, strict=True))
        shares = f"{saved / spent:.1%}", f"{most / spent:.1%}"
        print_row(study, sampler, stopped, f"{lost} of {on_front}", *shares)


def savings(run: Row, lines: list[Row]) -> tuple[int, int, int, float, float, float]:
    """Trials stopped, front points lost and there, CPU seconds saved, saved at most, and without stopping."""
    front = is_on_front([(line["loss"], line["bytes"]) for line in lines])
    on_front = {line["plan"] for line, kept in zip(lines, front, strict=True) if kept}
    stopped: set[str] = set()
    finished: list[Row] = []
    saved = most = spent = 0.0
    for trial, line in zip(run["trials"], lines, strict=True):
        if trial["plan"] in {other["plan"] for other in finished} | stopped:
            continue  # equal plans are trained once
        rungs = [] if trial["uniform"] or len(finished) < MIN_TRIALS else line["rungs"]
        at = next((rung for rung in range(len(rungs)) if is_hopeless(rung, line, finished)), None)
        if at is None:
            finished.append(line)
        else:
            stopped.add(trial["plan"])
            saved += line["cpu"] - rungs[at][2]
        if rungs and trial["plan"] not in on_front:
            most += line["cpu"] - rungs[0][2]
        spent += line["cpu"]
    return len(stopped), len(stopped & on_front), len(on_front), saved, most, spent


def is_hopeless(rung: int, line: Row, finished: list[Row]) -> bool:
    """Whether ``line`` ends at its rung."""
    others = [other for other in finished if len(other["rungs"]) > rung]
    rivals = [other["loss"] for other in finished if other["bytes"] <= line["bytes"]]
    forecast = Forecast.of([other["rungs"][rung][1] for other in others], [other["loss"] for other in others])
    return bool(rivals and forecast and forecast.chance_below(min(rivals), line["rungs"][rung][1]) < RISK)


def too_sure(distances: Floats, freedoms: Floats, better: NDArray[np.bool_], wide: float) -> list[str]:
    """The bins in which more trials were better than foretold."""
    chances = student.cdf(distances / wide, freedoms)
    found = []
    for low, high in pairwise(BINS):
        inside = (chances >= low) & (chances < high)
        if inside.any() and better[inside].mean() > chances[inside].mean():
            found.append(f"{chances[inside].mean():.1%} → {better[inside].mean():.1%}")
    return found


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
