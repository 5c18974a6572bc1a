"""The arena: searches, rules that need one measurement, and plans that need none, on really trained models.

    python studies/benchmarks/arena.py studies/benchmarks/arena/stories260k.yaml [--seeds 5] [--trials 20]
        [--lengths 1 4] [--strategies additive autoqra …] [--minutes 30]

One command that can be stopped and started again: it measures what is missing, appends it as JSON lines to
``arena-measurements.jsonl`` (every plan that was trained, with its loss) and ``arena-runs.jsonl`` (every
strategy's front), and writes ``arena.md``.

Who takes part: the ladder (``study.analysis.ladder``) and its parts, with no search; integer programs over
sensitivities, with one measurement and no trial; the front of as many rungs, evenly by bytes, as there are
trials; and the samplers, each in studies of its own. These have the study file's ranks, and begin with its
uniform plans; "every rank" has the ladder's ranks and no plan to begin with.

Equal compute. It is counted in examples: one that is trained on counts 1, one that is evaluated on, a forward
pass alone, counts a third. Every study may spend as much as ``--trials`` trials do, the uniform plans and its
probe included. The sweep that finds the learning rate is made once; all, the ladder too, are trained at
that rate. There is no early stopping. Proposals take no examples; how long they take is shown.

Truth. What is on a strategy's front at its end is trained again under two seeds that no search knows, for
each of ``--lengths`` times the steps of a trial, and measured on the test data, which no search reads. So is
the whole ladder after as many steps as a trial has; after more, those of its rungs that have come near its
front (``CONTENDS``). Nothing else is compared. Equal plans with equal seeds give equal losses on a CPU, so
that each is trained once, whichever strategy asks for it, and all pay for it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from arena_books import MEASUREMENTS, Books, append
from arena_table import CONTENDERS, CONTENDS, LADDER, TRUTH_SEEDS, UNIFORM, read, report

from jointsearch.assemble import read_layout, read_study_file
from jointsearch.config.study import StudyConfig
from jointsearch.config.training import FIRST_LEARNING_RATE
from jointsearch.front.pareto import is_on_front
from jointsearch.plan.plan import Plan
from jointsearch.search.learning_rate import sweep
from jointsearch.space import build_space
from jointsearch.strategies.registry import strategy
from jointsearch.strategies.settings import StrategySettings
from jointsearch.study.analysis.ladder import Rung, ladder, ladder_ranks
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study
from jointsearch.study.worker.probing import make_probe
from jointsearch.study.worker.rate_sweep import uniform_plans
from jointsearch.study.worker.trials import Worker
from jointsearch.training.calibration import LEARNING_RATES

RUNS, REPORT = (Path(__file__).with_name(f"arena{ending}") for ending in ("-runs.jsonl", ".md"))
SAMPLED = "the ladder in trials"
SEARCHES = {
    "random": {"sampler": "random"},
    "nsga2": {"sampler": "nsga2"},
    "tpe-bytes": {"sampler": "tpe-bytes"},
    "gp-bytes": {"sampler": "gp-bytes"},
    "qr-adaptor": {"sampler": "qr-adaptor", "probe": "sensitivity"},
    "autoqra": {"sampler": "autoqra", "probe": "sensitivity"},
    "primo": {"sampler": "primo"},
    "additive": {"sampler": "additive"},
    "additive, weight-sharing probe": {"sampler": "additive", "probe": "weight-sharing"},
    "additive, every rank": {"sampler": "additive", "space": "dense"},
}
STRATEGIES = [SAMPLED, *SEARCHES]
LADDERS: dict[str, Callable[[Rung], bool]] = {
    LADDER: lambda rung: True,
    UNIFORM: lambda rung: rung.origin.kind == "uniform",
    "simple rules": lambda rung: rung.origin.kind != "uniform",
}
PROGRAMS = ("ilp", "ilp-fisher")
"""Strategies that make a plan of sensitivities for any budget."""
NUM_BUDGETS = 12


@dataclass
class Front:
    """What a strategy ends with."""

    plans: list[Plan]
    trials: int = 0
    examples: float = 0.0
    proposal_seconds: float = 0.0


class Arena:
    """One study file, and everyone who takes part."""

    def __init__(self, file: str, trials: int, lengths: list[int]) -> None:
        self.config = read_study_file(file)
        self.layout = read_layout(self.config)
        self.space = build_space(self.config, self.layout)
        self.books = Books(self.config, self.layout)
        self.trials = trials
        self.lengths = lengths
        self.books = replace(self.books, rate=self._swept_rate())  # its probes have that rate too

    def take_part(self, name: str, seed: int | None = None) -> None:
        """Make a strategy's front and its truth, unless both are there."""
        budget = 0 if seed is None else self.trials
        mine = {"study": self.config.name, "strategy": name, "budget": budget, "seed": seed}
        rows = [row for row in read(RUNS) if mine.items() <= row.items()]
        lengths = self.lengths if name in (CONTENDERS, *STRATEGIES) else [1]
        if rows and all(self._is_measured(plan, lengths) for plan in rows[0]["front"]):
            return
        if seed is None:
            front = self._without_trials(name)
        else:
            front = self._sampled_ladder(seed) if name == SAMPLED else self._search(name, seed)
        for plan in front.plans:
            for length, truth_seed in itertools.product(lengths, TRUTH_SEEDS):
                self.books.measure(plan, truth_seed, length)
        row = {
            **mine,
            "trials": front.trials,
            "examples": round(front.examples),
            "trial_examples": round(self.books.trial_examples, 2),
            "proposal_seconds": round(front.proposal_seconds, 3),
            "rate": self.books.rate,
            "steps": self.config.calibration.steps,
            "front": [plan.digest for plan in front.plans],
        }
        if not rows:
            append(RUNS, row)
        print(
            *(f"{key} {value}" for key, value in row.items() if key != "front"), len(front.plans), flush=True
        )

    def _search(self, name: str, seed: int) -> Front:
        """One study of a sampler, for as many trials as the budget still has after its probe."""
        books = self.books
        search = {"seed": seed, "trials": self.trials, "early_stopping": False, **SEARCHES[name]}
        config = self.config.at(books.rate)
        if search.pop("space", None):
            ranks = (0, *ladder_ranks(config.search_space.ranks[-1]))
            dense = config.search_space.model_copy(update={"ranks": ranks, "enqueue": ()})
            config = config.model_copy(update={"search_space": dense})
        config = config.model_copy(
            update={
                "search": config.search.model_copy(update=search),
                "calibration": config.calibration.model_copy(update={"seed": seed, "measure_at": ()}),
            }
        )
        with self._study(config) as study:
            trained, books.paid = books.trained_seconds, 0.0
            make_probe(study, books, lambda: False)
            probed = time.process_time()
            num_trials = self.trials - math.ceil(books.paid / books.trial_examples)
            study = StoredStudy(study.optuna_study, config.with_trials(num_trials))
            Worker(study, books).run()
            seconds = time.process_time() - probed - (books.trained_seconds - trained)
            plans = [point.plan for point in study.records().front]
        return Front(plans, num_trials, books.paid, seconds / num_trials)

    def _sampled_ladder(self, seed: int) -> Front:
        """What a person might do with the same compute: measure rungs, and keep the best."""
        rungs = sorted(ladder(self.space, self.layout), key=lambda rung: rung.model_bytes)
        even = np.linspace(0, len(rungs) - 1, min(self.trials, len(rungs))).round().astype(int)
        plans = [rungs[position].plan for position in even]
        rows = [self.books.measure(plan, seed) for plan in plans]
        known = [pair for pair in zip(plans, rows, strict=True) if pair[1]["loss"] is not None]
        front = is_on_front([(row["loss"], row["bytes"]) for _, row in known])
        best = [plan for (plan, _), kept in zip(known, front, strict=True) if kept]
        return Front(best, len(plans), len(plans) * self.books.trial_examples)

    def _without_trials(self, name: str) -> Front:
        """Parts of the ladder, or an integer program's plans from the smallest uniform plan's bytes to the
        largest one's."""
        rungs = ladder(self.space, self.layout)
        if name in LADDERS:
            return Front([rung.plan for rung in rungs if LADDERS[name](rung)])
        if name == CONTENDERS:
            return Front([rung.plan for rung in self._contenders(rungs)])
        self.books.paid = 0.0
        settings = StrategySettings.of(self.space, self.config.search_space)
        found = self.books.sensitivities(self.layout, settings.rank)
        settings = replace(settings, sensitivities=found)
        sizes = [rung.model_bytes for rung in rungs if LADDERS[UNIFORM](rung)]
        budgets = np.geomspace(min(sizes), max(sizes), NUM_BUDGETS).round().astype(int).tolist()
        plans = dict.fromkeys(strategy(name).plan(self.layout, settings, budget) for budget in budgets)
        return Front(list(plans), examples=self.books.paid)

    def _contenders(self, rungs: list[Rung]) -> Iterator[Rung]:
        """What of the ladder is worth longer runs: the others are far from its front."""

        def loss(rung: Rung) -> float:
            losses = [self.books.measure(rung.plan, seed)["loss"] for seed in TRUTH_SEEDS]
            return math.inf if None in losses else statistics.fmean(losses)

        best = math.inf
        for rung in sorted(rungs, key=lambda rung: rung.model_bytes):
            best = min(best, loss(rung))
            if loss(rung) <= best + CONTENDS:
                yield rung

    def _swept_rate(self) -> float:
        """The rate that a study finds, or the file says."""
        if self.config.calibration.learning_rate != "auto":
            return self.config.calibration.learning_rate
        with self._study(self.config) as study:
            plans = uniform_plans(study, self.space.lora)

        def loss_of(plan: str, rate: float) -> float:
            loss = self.books.measure(plans[plan], 0, rate=rate)["loss"]
            return math.inf if loss is None else loss

        return sweep(list(plans), LEARNING_RATES, FIRST_LEARNING_RATE, loss_of)

    @contextmanager
    def _study(self, config: StudyConfig) -> Iterator[StoredStudy]:
        """A study that nobody keeps."""
        with tempfile.TemporaryDirectory() as folder:
            yield create_study(open_storage(f"sqlite:///{folder}/study.db", create=True), config, self.layout)

    def _is_measured(self, digest: str, lengths: list[int]) -> bool:
        steps = self.config.calibration.steps
        return all(
            (digest, seed, self.books.rate, length * steps) in self.books.known
            for length, seed in itertools.product(lengths, TRUTH_SEEDS)
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a study file, or an embedded study")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1], help="of the truth, in trials")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing new after so many")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    arena = Arena(arguments.study, arguments.trials, arguments.lengths)
    for name in (*LADDERS, CONTENDERS, *PROGRAMS):
        arena.take_part(name)
    for seed, name in itertools.product(range(arguments.seeds), arguments.strategies):
        if time.monotonic() < end:
            arena.take_part(name, seed)
    REPORT.write_text(report(read(RUNS), read(MEASUREMENTS)))


if __name__ == "__main__":
    main()
