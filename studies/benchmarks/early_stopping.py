"""How often trials are better than early stopping has foretold, on the recorded studies of ``real.py``.

``python studies/benchmarks/early_stopping.py > studies/benchmarks/early_stopping.md``

Every trial of these studies was measured to its end. Each trial of the search is forecast at its rungs by the
trials before it alone, as in a study; it was better if its loss is below the best of no more bytes by then.
A forecast is honest where not more are better than it says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from jointsearch.study.worker.early_stopping import RISK, WIDENING, Forecast

FOLDER = Path(__file__).parent
BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
WIDENINGS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5)

Row = dict[str, Any]
Floats = NDArray[np.float64]


def rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def forecasts() -> Iterator[tuple[str, float, int, bool]]:
    """Study, the bound's distance from the forecast in units of its spread as fitted, degrees of freedom,
    and whether the trial was better."""
    measured = {(row["study"], row["plan"], row["seed"]): row for row in rows("real-measurements.jsonl")}
    for run in rows("real-runs.jsonl"):
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
