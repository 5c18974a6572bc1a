"""What the arena has measured, as Markdown: ``arena.py`` writes it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from scipy.stats import t as student

from jointsearch.front.pareto import hypervolume
from jointsearch.study.analysis.equal_bytes import Entry, rivals_of
from jointsearch.study.records import MARGIN

LADDER, UNIFORM, CONTENDERS = "the ladder", "its uniform plans", "its best rungs"
CONTENDS = 0.02
"""Nats: how near to the ladder's front a rung must come to be trained for longer, too."""
NUM_SEARCHES = 5
"""Of a strategy, below which the report says what is missing."""
TRUTH_SEEDS = (1000, 1001)
HEADINGS = "compute", "s / trial beside training", "plans"
CONFIDENCE = 0.95
MIN_CORRELATED = 3
"""Plans that a rank correlation takes."""
MISSING = """\
- Searches with finals: all choose by trials of one length.
- Further seeds of the truth, which all searches share: two are few.
- Larger models, other tasks, cross-attention."""
HEAD = """# The arena

Searches against plans that need none, at equal compute: see `arena.py`. Losses are those on the test data,
after further trainings of every plan of a front: means over the seeds {seeds}. No search knows either.

- **Hypervolume** is that of a strategy's plans over the whole ladder's, in the box whose corner lies
  {margin:.0%} of the span beyond the worst loss and the most bytes of the uniform plans. This is kind
  to the ladder: the best of its many plans by the very losses that judge make its front, while a search has
  chosen by others.
- **Gain** is what a plan is better, in nats, than its rival of equal bytes on the ladder: the kindest pair of
  rungs under one seed of the truth, judged under the other, and the other way round. So the rival is chosen
  among all rungs, each of which was trained: more compute than a search has. Of a strategy's plans those
  count that are not on the ladder and have rungs on both sides. Mean over a front's plans, then the lowest
  and the highest plan, and the share of plans that are better.
- After more steps than a trial has, the ladder is those of its rungs that lie within {contends:g} nats of its
  front after a trial's steps; the others are not trained for so long.
- **±** is half the {confidence:.0%} interval (Student) of the mean over searches with different seeds. It
  does not hold what further seeds of the truth, which all share, would change.
- **Compute** is what one search has used, in trials' worth of examples; that of the learning rate's sweep,
  made once for all, is not in it.
"""

Row = dict[str, Any]
Key = tuple[str, int, float, int]


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key_of(row: Row) -> Key:
    """Of a measurement of one study."""
    return row["plan"], row["seed"], row["rate"], row["steps"]


def report(runs: Sequence[Row], measurements: Sequence[Row]) -> str:
    lines = [
        HEAD.format(
            seeds=" and ".join(map(str, TRUTH_SEEDS)), margin=MARGIN, confidence=CONFIDENCE, contends=CONTENDS
        )
    ]
    for study in dict.fromkeys(run["study"] for run in runs):
        mine = [run for run in runs if run["study"] == study]
        measured = {key_of(row): row for row in measurements if row["study"] == study}
        rate, steps = mine[0]["rate"], mine[0]["steps"]
        lines.append(
            f"## {study}\n\nTrials of {steps} steps at the learning rate {rate:g}, found by a sweep.\n"
        )
        lengths = sorted({key[3] for key in measured if key[1] in TRUTH_SEEDS})
        every = [Truth(length, rate, measured, mine) for length in lengths]
        truths = [t for t in every if any(run["strategy"] == t.ladder and t.has(run) for run in mine)]
        lines += [line for truth in truths for line in truth.table()]
        lines += _missing(mine, truths)
    return "\n".join(lines) + "\n"


def _missing(runs: list[Row], truths: Sequence[Truth]) -> Iterator[str]:
    """What a reader might take for measured, and is not."""
    yield f"### What is missing\n\n{MISSING}"
    if len(truths) == 1:
        yield "- Truth after more steps than a trial has."
    for truth in truths:
        counts = Counter(
            (run["strategy"], run["budget"]) for run in runs if run["seed"] is not None and truth.has(run)
        )
        few = [
            f"{name} after {trials} trials ({n})" for (name, trials), n in counts.items() if n < NUM_SEARCHES
        ]
        left_out = {run["strategy"] for run in runs if run["seed"] is not None} - {name for name, _ in counts}
        if few:
            yield f"- Truth after {truth.steps} steps, fewer than {NUM_SEARCHES} searches: {', '.join(few)}."
        if left_out:
            yield f"- Truth after {truth.steps} steps of {', '.join(sorted(left_out))}."


@dataclass(frozen=True)
class Truth:
    """The losses of one study's fronts after so many steps."""

    steps: int
    rate: float
    measured: dict[Key, Row]
    runs: list[Row]

    @property
    def ladder(self) -> str:
        """The strategy whose plans are the rivals."""
        return LADDER if self.steps == self.runs[0]["steps"] else CONTENDERS

    def has(self, run: Row) -> bool:
        keys = [(plan, seed, self.rate, self.steps) for plan in run["front"] for seed in TRUTH_SEEDS]
        return all(key in self.measured for key in keys)

    def entries(self, plans: Sequence[str]) -> list[Entry]:
        """Of the plans that have not diverged."""
        found = []
        for plan in plans:
            rows = [self.measured[plan, seed, self.rate, self.steps] for seed in TRUTH_SEEDS]
            if all(row["loss"] is not None for row in rows):
                losses = {row["seed"]: row["loss"] for row in rows}
                found.append(Entry(0, plan, rows[0]["bytes"], losses))
        return found

    def table(self) -> Iterator[str]:
        yield f"### Truth after {self.steps} steps\n"
        yield row_of("strategy", "seeds", "trials", *HEADINGS, "hypervolume", "gain", "")
        yield row_of(*["---"] * 2, *["---:"] * 4, *["---"] * 3)
        lines = []
        for budget, strategy in {(run["budget"], run["strategy"]) for run in self.runs}:
            of_both = [run for run in self.runs if (run["budget"], run["strategy"]) == (budget, strategy)]
            if runs := [run for run in of_both if self.has(run)]:
                shares = [self.area(self.entries(run["front"])) / self.area(self._ladder) for run in runs]
                lines.append((budget, -statistics.fmean(shares), self._line(strategy, runs, shares)))
        yield from (line for _, _, line in sorted(lines))
        yield f"\n{self._fidelity()}\n"

    def _line(self, strategy: str, runs: list[Row], shares: list[float]) -> str:
        fronts = [self.entries(run["front"]) for run in runs]
        gains = [found for front in fronts if (found := [g for plan in front for g in self.gain(plan)])]
        every = np.array([gain for found in gains for gain in found])
        extremes = f"{min(every):+.3f} to {max(every):+.3f}, {np.mean(every > 0):.0%} better" if gains else ""
        return row_of(
            strategy,
            "" if runs[0]["seed"] is None else len(runs),
            round(statistics.fmean(run["trials"] for run in runs), 1),
            f"{statistics.fmean(run['examples'] for run in runs) / self._examples:.1f}",
            f"{statistics.fmean(run['proposal_seconds'] for run in runs):.2f}" if runs[0]["trials"] else "",
            round(statistics.fmean(len(front) for front in fronts), 1),
            with_interval(shares),
            with_interval([statistics.fmean(found) for found in gains]),
            extremes,
        )

    def gain(self, plan: Entry) -> Iterator[float]:
        """Nothing of a plan that is on the ladder, or has no rung on one side."""
        if plan.name in {rung.name for rung in self._ladder}:
            return
        found = []
        for judge in TRUTH_SEEDS:
            rivals = rivals_of(plan, self._ladder, [seed for seed in TRUTH_SEEDS if seed != judge])
            found += [rivals[0].losses([judge])[0] - plan.losses[judge]] if rivals else []
        if found:
            yield statistics.fmean(found)

    def area(self, plans: Sequence[Entry]) -> float:
        points = [(plan.mean(TRUTH_SEEDS), plan.model_bytes) for plan in plans]
        return hypervolume(points, self._corner)

    @cached_property
    def _ladder(self) -> list[Entry]:
        return self._without_search(self.ladder)

    @cached_property
    def _corner(self) -> tuple[float, float]:
        uniform = next(run["front"] for run in self.runs if run["strategy"] == UNIFORM)
        plans = [plan for plan in self._ladder if plan.name in uniform]
        points = np.array([(plan.mean(TRUTH_SEEDS), plan.model_bytes) for plan in plans])
        loss, size = points.max(axis=0) + MARGIN * np.ptp(points, axis=0)
        return float(loss), float(size)

    def _without_search(self, strategy: str) -> list[Entry]:
        return self.entries(next(run["front"] for run in self.runs if run["strategy"] == strategy))

    @property
    def _examples(self) -> float:
        """Of a trial."""
        return float(next(run["trial_examples"] for run in self.runs))

    def _fidelity(self) -> str:
        """How well trials order what they have put on fronts."""
        found = []
        for seed in sorted({run["seed"] for run in self.runs if run["seed"] is not None}):
            fronts = [run["front"] for run in self.runs if run["seed"] == seed and self.has(run)]
            plans = self.entries(list(dict.fromkeys(plan for front in fronts for plan in front)))
            trials = [
                self.measured[plan.name, seed, self.rate, self.runs[0]["steps"]]["loss"] for plan in plans
            ]
            if len(plans) >= MIN_CORRELATED:
                found.append(float(spearmanr(trials, [plan.mean(TRUTH_SEEDS) for plan in plans]).statistic))
        return (
            "Rank correlation (Spearman) of a trial's loss with the truth, over the plans of all fronts: "
            f"{with_interval(found)}."
        )


def with_interval(values: Sequence[float]) -> str:
    """Mean ± half its interval; nothing of nothing."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.3f} ± {student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error:.3f}"


def row_of(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
