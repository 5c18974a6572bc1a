"""The arena's tables say what a hand finds."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import jointsearch

BENCHMARKS = Path(jointsearch.__file__).parents[1] / "studies" / "benchmarks"
LADDER = {"a": 100, "b": 200, "c": 300}
"""Bytes of three uniform plans."""
LOSSES = {"a": (3.0, 3.2), "b": (2.8, 2.8), "c": (2.7, 2.9), "found": (2.6, 2.7), "worse": (3.5, 3.3)}
SIZES = {**LADDER, "found": 250, "worse": 120}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("arena_table")


def run(strategy: str, front: list[str], seed: int | None = None) -> dict[str, Any]:
    common = {"study": "s", "rate": 0.01, "steps": 30, "trial_examples": 100.0, "proposal_seconds": 0.5}
    trials = 0 if seed is None else 20
    return {
        **common,
        "strategy": strategy,
        "seed": seed,
        "budget": trials,
        "trials": trials,
        "examples": 100 * trials,
        "front": front,
    }


def measurements(seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    truth = [
        (plan, seed, loss)
        for plan, losses in LOSSES.items()
        for seed, loss in zip(seeds, losses, strict=True)
    ]
    trials = [(plan, 0, losses[0]) for plan, losses in LOSSES.items()]
    common = {"study": "s", "rate": 0.01, "steps": 30}
    return [
        {**common, "plan": plan, "seed": seed, "loss": loss, "bytes": SIZES[plan]}
        for plan, seed, loss in [*truth, *trials]
    ]


def cells(report: str, strategy: str) -> list[str]:
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {strategy} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_gains_and_hypervolumes_by_hand(table: ModuleType) -> None:
    runs = [
        run(table.LADDER, [*LADDER]),
        run(table.UNIFORM, [*LADDER]),
        run("one", ["a", "found"], seed=0),
        run("two", ["worse"], seed=0),
        run("two", ["found"], seed=1),
    ]
    report = table.report(
        runs, [*measurements(table.TRUTH_SEEDS), *_under(1, measurements(table.TRUTH_SEEDS))]
    )
    # means: a 3.1, b and c 2.8; the corner is a tenth of .3 and of 200 beyond (3.1, 300): (3.13, 320)
    ladder = (3.13 - 3.1) * (320 - 100) + (3.1 - 2.8) * (320 - 200)
    one = (3.13 - 3.1) * (320 - 100) + (3.1 - 2.65) * (320 - 250)
    # "found" has 250 bytes, between b and c. Judged by the first seed, where c is better, b to c is read at
    # log(250 / 200) / log(300 / 200) = .55 of the way, 2.745; by the second, where b is better, halfway, 2.85
    gain = ((2.745 - 2.6) + (2.85 - 2.7)) / 2
    found = cells(report, "one")
    assert found[1:6] == ["1", "20.0", "20.0", "0.50", "2.0"] or found[1:6] == [
        "1",
        "20",
        "20.0",
        "0.50",
        "2",
    ]
    assert float(found[6]) == pytest.approx(one / ladder, abs=6e-4)
    assert float(found[7]) == pytest.approx(gain, abs=6e-4)
    assert cells(report, table.LADDER)[6:8] == ["1.000", ""]
    # two searches: one gains, the other does not; half the interval is 12.706 times the standard error
    mean, half = cells(report, "two")[7].split(" ± ")
    low = 2 * float(mean) - gain
    assert low < 0
    assert float(half) == pytest.approx(12.706 * (gain - low) / 2, rel=0.01)
    assert "50% better" in report


def _under(seed: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "seed": seed} for row in rows if row["seed"] == 0]


def test_what_diverges_is_no_point(table: ModuleType) -> None:
    rows = [
        {**row, "loss": None} if row["plan"] == "found" else row for row in measurements(table.TRUTH_SEEDS)
    ]
    runs = [run(table.LADDER, [*LADDER]), run(table.UNIFORM, [*LADDER]), run("one", ["a", "found"], seed=0)]
    found = cells(table.report(runs, rows), "one")
    ladder = (3.13 - 3.1) * (320 - 100) + (3.1 - 2.8) * (320 - 200)
    assert float(found[6]) == pytest.approx((3.13 - 3.1) * (320 - 100) / ladder, abs=6e-4)
    assert found[7] == ""


def test_longer_runs_have_the_best_rungs_for_rivals(table: ModuleType) -> None:
    """Without "b", whose longer runs nobody has paid for."""
    runs = [
        run(table.LADDER, [*LADDER]),
        run(table.UNIFORM, [*LADDER]),
        run(table.CONTENDERS, ["a", "c"]),
        run("one", ["found"], seed=0),
        run("two", ["worse"], seed=0),
    ]
    rows = measurements(table.TRUTH_SEEDS)
    longer = [{**row, "steps": 120} for row in rows if row["plan"] in ("a", "c", "found")]
    short, _, long = table.report(runs, [*rows, *longer]).partition("### Truth after 120 steps")
    # from a to c, 250 bytes are log(2.5) / log(3) = .834 of the way: 2.750 and 2.950 under the two seeds
    gain = ((2.750 - 2.6) + (2.950 - 2.7)) / 2
    assert float(cells(short, "one")[7]) == pytest.approx(0.1475, abs=6e-4)  # as above
    assert float(cells(long, "one")[7]) == pytest.approx(gain, abs=6e-4)
    assert not any(line.startswith(("| two |", f"| {table.LADDER} |")) for line in long.splitlines())
    assert "- Truth after 120 steps of two." in long
    assert "one after 20 trials (1), two after 20 trials (1)" in long
