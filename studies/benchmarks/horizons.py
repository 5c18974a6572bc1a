"""Do losses along a run foretell what ranks are worth in longer runs? By the recorded ``rates.jsonl``.

    python studies/benchmarks/horizons.py > studies/benchmarks/horizons.md

The worth of a rank is by how much the loss is lower than with a lower rank, in runs of one rate and length.
It is extrapolated in log(steps) to 1000 steps, which were run too: from runs of two lengths, as the search
does with its early long runs (``jointsearch.search.additive.horizon``), and by the slope along one run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

RECORDED = Path(__file__).parent / "rates.jsonl"
SHORT, LONG, TARGET = 40, 300, 1000
PAIRS = ((2, 8), (2, 32), (8, 32))
HIGHEST_RATE = 0.01
"""Above it runs of rank 32 are unstable."""

Run = dict[str, Any]
HEAD = f"""# Do losses along a run foretell what ranks are worth in longer ones?

By `python studies/benchmarks/horizons.py`, from `rates.jsonl` (one alpha for all ranks, rates up to
{HIGHEST_RATE}, one seed). Mean absolute error, in nats, of what a rank is worth after {TARGET} steps.

| what is known | extrapolation | error | cases |
|---|---|---:|---:|
"""


def main() -> None:
    runs = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    print(table(runs), end="")


def table(runs: list[Run]) -> str:
    found: dict[tuple[str, str], list[float]] = {}
    for name, foretold, actual in foretellings(runs):
        found.setdefault(name, []).append(abs(foretold - actual))
    rows = [f"| {k} | {how} | {fmean(errors):.3f} | {len(errors)} |\n" for (k, how), errors in found.items()]
    return HEAD + "".join(rows)


def foretellings(runs: list[Run]) -> Iterator[tuple[tuple[str, str], float, float]]:
    """What is known and how it is extrapolated, the worth that is foretold, and the worth that was found."""
    known = {
        (run["study"], run["rate"], run["seed"], run["rank"], run["steps"]): run["curve"]
        for run in runs
        if run["scaling"] == "alpha" and run["rate"] <= HIGHEST_RATE and run["loss"] is not None
    }
    for study in dict.fromkeys(key[:3] for key in known):
        for ranks in PAIRS:
            keys = {steps: [(*study, rank, steps) for rank in ranks] for steps in (SHORT, LONG, TARGET)}
            if not all(key in known for pair in keys.values() for key in pair):
                continue
            short, long, target = (worths(*(known[key] for key in keys[steps])) for steps in keys)
            actual, ahead = target[-1][1], math.log(TARGET / LONG)
            two = long[-1][1] + (long[-1][1] - short[-1][1]) / math.log(LONG / SHORT) * ahead
            along = long[-1][1] + slope(long) * ahead
            both = f"runs of {SHORT} and {LONG} steps"
            yield (f"a run of {SHORT} steps", "none"), short[-1][1], actual
            alone = short[-1][1] + slope(short) * math.log(TARGET / SHORT)
            yield (f"a run of {SHORT} steps", "along the run"), alone, actual
            yield (both, "none"), long[-1][1], actual
            yield (both, "between their ends"), two, actual
            yield (both, "along the longer run"), along, actual
            yield (both, "the mean of both"), (two + along) / 2, actual


def worths(low: list[list[float]], high: list[list[float]]) -> list[tuple[float, float]]:
    """Step and worth along two runs."""
    return [(step, before - after) for (step, before), (_, after) in zip(low, high, strict=True)]


def slope(curve: list[tuple[float, float]]) -> float:
    """Of the worth in log(steps), by least squares through its end."""
    last, end = curve[-1]
    away = [(math.log(step / last), worth - end) for step, worth in curve[:-1]]
    return sum(x * y for x, y in away) / sum(x * x for x, _ in away)


if __name__ == "__main__":
    main()
