"""Compares samplers on real trials: whole studies of short fine-tunes, every sampler, several seeds.

    python studies/benchmarks/real.py run quickstart [--seeds 3] [--trials 60] [--samplers additive nsga2 …]
    python studies/benchmarks/real.py run studies/measured/stories260k-wikitext2.yaml
    python studies/benchmarks/real.py table > studies/benchmarks/real.md
    python studies/benchmarks/real.py plot          # real.svg; needs the extra plot and a Chrome

``run`` adds what is missing to two files: ``real-measurements.jsonl`` has a line for every plan that was
really trained, with its losses at the rungs and the CPU seconds until then, and ``real-runs.jsonl`` one for
every study. Equal plans with equal seeds give equal losses, so each is trained once, whichever study
asks for it, and every study pays what it cost. A study's seed is both the sampler's and that of the
trials. All begin with the uniform plans; ``additive`` is run with early stopping and without, with the
probe and without.

The plans on the front of a study after 15, 20, 30, … trials, and after the CPU seconds of as many mean
trials, are trained again with a seed that none of the studies knew, and hypervolume is that of those
losses: nobody is rewarded for luck. It is a share of that of all plans that were trained again, in the
box below the worst uniform plan. CPU seconds are those of this process: trials, probe, proposals, storage.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from jointsearch.assemble import build_runner, read_layout, read_study_file
from jointsearch.config.study import StudyConfig
from jointsearch.front.pareto import hypervolume, is_on_front
from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace, build_space
from jointsearch.study.study import create_study
from jointsearch.study.worker.early_stopping import MIN_TRIALS, RISK, Forecast
from jointsearch.study.worker.trials import Worker
from jointsearch.training.calibration import CalibrationRunner

HERE = Path(__file__).parent
MEASUREMENTS, RUNS = HERE / "real-measurements.jsonl", HERE / "real-runs.jsonl"
VARIANTS: dict[str, dict[str, Any]] = {
    "additive": {"sampler": "additive", "early_stopping": True, "probe": "weight-sharing"},
    "additive, all to the end": {"sampler": "additive", "early_stopping": False, "probe": "weight-sharing"},
    "additive, no probe": {"sampler": "additive", "early_stopping": False, "probe": "none"},
    "nsga2": {"sampler": "nsga2", "early_stopping": False},
    "tpe": {"sampler": "tpe", "early_stopping": False},
    "gp": {"sampler": "gp", "early_stopping": False},
    "random": {"sampler": "random", "early_stopping": False},
    "qr-adaptor": {"sampler": "qr-adaptor", "early_stopping": False},
}
COLORS = ("#0072b2", "#56b4e9", "#000000", "#d55e00", "#009e73", "#999999", "#cc79a7", "#e69f00")
FRESH = 1000
"""The seed of the plans that are trained again."""
COUNTS = (15, 20, 30, 40, 50, 60)
"""Fronts are compared after so many trials, and after the CPU seconds of so many mean trials."""

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row, separators=(",", ":")) + "\n")


@dataclass
class Bookkeeper:
    """A runner that trains every plan to its end and once, and notes what a study has to pay."""

    study: str
    runner: CalibrationRunner
    known: dict[tuple[str, int], Row] = field(default_factory=dict)
    paid: dict[str, float] = field(default_factory=dict)
    """CPU seconds by plan, with those since the trial before: the probe, proposals, storage."""
    _left: float = 0.0

    def __post_init__(self) -> None:
        lines = [line for line in read(MEASUREMENTS) if line["study"] == self.study]
        self.known = {(line["plan"], line["seed"]): line for line in lines}

    def begin(self) -> None:
        self.paid, self._left = {}, time.process_time()

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        overhead = time.process_time() - self._left
        try:
            line = self.measure(plan, trial.seed)
            for step, loss, seconds in line["rungs"]:
                self.paid[plan.digest] = round(overhead + seconds, 2)
                trial.report(step, loss)
            self.paid[plan.digest] = round(overhead + line["cpu"], 2)
            points = [LossPoint(step=step, loss=loss) for step, loss, _ in line["rungs"]]
            return Measurement(
                metrics={"loss": line["loss"]},
                model_bytes=line["bytes"],
                validation_losses=(*points, LossPoint(step=line["steps"], loss=line["loss"])),
                seed=trial.seed,
            )
        finally:
            self._left = time.process_time()

    def measure(self, plan: Plan, seed: int) -> Row:
        """The plan's line, which is in the file."""
        key = plan.digest, seed
        if key not in self.known:
            rungs: list[tuple[int, float, float]] = []
            start = time.process_time()

            def note(step: int, loss: float) -> None:
                rungs.append((step, round(loss, 6), round(time.process_time() - start, 2)))

            found = self.runner.run(plan, Trial(seed, report=note))
            self.known[key] = {
                "study": self.study,
                "plan": plan.digest,
                "seed": seed,
                "bytes": found.model_bytes,
                "rungs": rungs,
                "steps": found.validation_losses[-1].step,
                "loss": round(found.metrics["loss"], 6),
                "cpu": round(time.process_time() - start, 2),
            }
            append(MEASUREMENTS, self.known[key])
        return self.known[key]

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Any:
        return self.runner.probe(space, steps, trial)


def run(file: str, variants: list[str], num_seeds: int, trials: int) -> None:
    config = read_study_file(file)
    layout = read_layout(config)
    space = build_space(config, layout)
    runner = build_runner(config, layout)
    assert isinstance(runner, CalibrationRunner)
    books = Bookkeeper(config.name, runner)
    done = {(line["study"], line["variant"], line["seed"]) for line in read(RUNS)}
    for seed in range(num_seeds):
        for variant in variants:
            if (config.name, variant, seed) not in done:
                line = one_study(config, layout, books, variant, seed, trials)
                append(RUNS, line)
                print(config.name, variant, seed, round(sum(t["cpu"] for t in line["trials"])), flush=True)
    measure_again(config.name, space, books)


def one_study(
    config: StudyConfig, layout: ModelLayout, books: Bookkeeper, variant: str, seed: int, trials: int
) -> Row:
    search = config.search.model_copy(update={"seed": seed, "trials": trials, **VARIANTS[variant]})
    calibration = config.calibration.model_copy(update={"seed": seed, "measure_at": (0.25, 0.5)})
    config = config.model_copy(
        update={"name": f"{config.name}-{seed}", "search": search, "calibration": calibration}
    )
    study = create_study(optuna.storages.InMemoryStorage(), config, layout)
    books.begin()
    Worker(study, books).run()
    params = [trial.params for trial in study.optuna_study.trials]
    lines = [
        {
            "values": "".join(str(params[trial.number][name]) for name in study.space.parameters),
            "plan": trial.digest,
            "uniform": trial.origin.is_named,
            "complete": trial.state == TrialState.COMPLETE,
            "cpu": 0 if trial.copy_of is not None else books.paid[trial.digest],
        }
        for trial in study.records().trials
    ]
    return {
        "study": books.study,
        "variant": variant,
        "seed": seed,
        "trials": lines,
    }


def measure_again(study: str, space: SearchSpace, books: Bookkeeper) -> None:
    """Train with the fresh seed what a front has at one of the moments, and the uniform plans."""
    wanted = {baseline.plan.digest: baseline.plan for baseline in space.baselines()}
    names = list(space.parameters)
    for line in read(RUNS):
        if line["study"] != study:
            continue
        for trial in line["trials"]:
            values = dict(zip(names, map(int, trial["values"]), strict=True))
            if trial["plan"] in on_fronts(line, books.known):
                wanted.setdefault(trial["plan"], space.plan(values))
    for plan in wanted.values():
        books.measure(plan, FRESH)
    print(study, len(wanted), "plans again", flush=True)


def on_fronts(run: Row, measured: dict[tuple[str, int], Row]) -> set[str]:
    """Plans on the run's front at one of the moments at which fronts are compared."""
    moments = [*after_trials(run).values(), *after_seconds(run, mean_seconds(measured)).values()]
    return {plan for trials in moments for plan in front(trials, run["seed"], measured)}


def mean_seconds(measured: dict[tuple[str, int], Row]) -> float:
    return statistics.fmean(line["cpu"] for (_, seed), line in measured.items() if seed != FRESH)


def after_trials(run: Row) -> dict[int, list[Row]]:
    """The run's first trials."""
    return {count: run["trials"][:count] for count in COUNTS if count <= len(run["trials"])}


def after_seconds(run: Row, seconds: float) -> dict[int, list[Row]]:
    """The trials that were finished after so many times ``seconds``; no moment that the run has not seen."""
    spent = list(accumulate(trial["cpu"] for trial in run["trials"]))
    return {
        count: run["trials"][: bisect_right(spent, count * seconds)]
        for count in COUNTS
        if spent[-1] >= count * seconds * 0.97  # of a run of average trials the last moment too
    }


def front(trials: list[Row], seed: int, measured: dict[tuple[str, int], Row]) -> list[str]:
    """Plans on the front of the complete trials, as the study has seen them."""
    plans = list(dict.fromkeys(trial["plan"] for trial in trials if trial["complete"]))
    lines = [measured[plan, seed] for plan in plans]
    keep = is_on_front([(line["loss"], line["bytes"]) for line in lines])
    return [plan for plan, kept in zip(plans, keep, strict=True) if kept]


@dataclass(frozen=True)
class Results:
    """All runs of one study file."""

    runs: list[Row]
    measured: dict[tuple[str, int], Row]

    @classmethod
    def by_study(cls) -> dict[str, Results]:
        runs, lines = read(RUNS), read(MEASUREMENTS)
        return {
            study: cls(
                [run for run in runs if run["study"] == study],
                {(line["plan"], line["seed"]): line for line in lines if line["study"] == study},
            )
            for study in dict.fromkeys(run["study"] for run in runs)
        }

    def of(self, variant: str) -> list[Row]:
        return [run for run in self.runs if run["variant"] == variant]

    @cached_property
    def seconds(self) -> float:
        return mean_seconds(self.measured)

    @cached_property
    def reference(self) -> tuple[float, float]:
        """The corner of the worst uniform plan, which every run begins with: loss, bytes."""
        uniform = [trial["plan"] for trial in self.runs[0]["trials"] if trial["uniform"]]
        points = [self._again(plan) for plan in uniform]
        return max(loss for loss, _ in points), max(size for _, size in points)

    @cached_property
    def known(self) -> float:
        """The hypervolume of all plans that were trained again."""
        again = [self._again(plan) for plan, seed in self.measured if seed == FRESH]
        return hypervolume(again, self.reference)

    def reached(self, run: Row, moments: dict[int, list[Row]]) -> dict[int, float]:
        """Hypervolume of the run's fronts, by moment."""
        return {
            count: hypervolume(
                [self._again(plan) for plan in front(trials, run["seed"], self.measured)], self.reference
            )
            / self.known
            for count, trials in moments.items()
        }

    def means(self, variant: str, by_seconds: bool) -> dict[int, float]:
        """Means over the seeds, at the moments that all of them have seen."""
        curves = [
            self.reached(run, after_seconds(run, self.seconds) if by_seconds else after_trials(run))
            for run in self.of(variant)
        ]
        shared = [count for count in COUNTS if curves and all(count in curve for curve in curves)]
        return {count: statistics.fmean(curve[count] for curve in curves) for count in shared}

    def _again(self, plan: str) -> tuple[float, float]:
        line = self.measured[plan, FRESH]
        return line["loss"], line["bytes"]


def table() -> None:
    print("# Samplers on real trials\n")
    print("Share of the hypervolume of all plans that were trained again; means over seeds. See `real.py`.")
    for study, results in Results.by_study().items():
        print(f"\n## {study}\n\nA mean trial takes {results.seconds:.1f} CPU seconds.\n")
        for by_seconds, title in ((False, "after so many trials"), (True, "after the seconds of so many")):
            print_row(title, "seeds", *COUNTS, "CPU seconds in all")
            print_row(*["---"] * (3 + len(COUNTS)))
            for variant in VARIANTS:
                runs, means = results.of(variant), results.means(variant, by_seconds)
                if not runs:
                    continue
                cells = [f"{means[count]:.3f}" if count in means else "" for count in COUNTS]
                spent = statistics.fmean(sum(trial["cpu"] for trial in run["trials"]) for run in runs)
                print_row(variant, len(runs), *cells, round(spent))
            print()
        print_stopping(results)


def print_stopping(results: Results) -> None:
    """What early stopping saves and loses. Every trial was trained to its end, so all of it is known.

    ``additive`` has really stopped its trials, by forecasts as narrow as fitted; of the other runs the rule
    is replayed on the trials that they had, and so is what no rule can better: a stop at the first rung of
    all that end off the front.
    """
    print_row("early stopping", "trials stopped", "points of the fronts lost", "CPU seconds saved", "at most")
    print_row(*["---"] * 5)
    for variant in VARIANTS:
        runs = results.of(variant)
        if runs:
            found = [stopping(run, results.measured, replayed=variant != "additive") for run in runs]
            stopped, lost, on_front = (sum(column) for column in list(zip(*found, strict=True))[:3])
            saved, most, spent = (sum(column) for column in list(zip(*found, strict=True))[3:])
            print_row(
                variant, stopped, f"{lost} of {on_front}", f"{saved / spent:.1%}", f"{most / spent:.1%}"
            )


def stopping(
    run: Row, measured: dict[tuple[str, int], Row], *, replayed: bool
) -> tuple[int, int, int, float, float, float]:
    """Trials stopped, front points lost and there, CPU seconds saved, saved at most, and without stopping."""
    lines = [measured[trial["plan"], run["seed"]] for trial in run["trials"]]
    on_front = set(front([{**trial, "complete": True} for trial in run["trials"]], run["seed"], measured))
    stopped: set[str] = set()
    finished: list[Row] = []
    saved = most = spent = 0.0
    for trial, line in zip(run["trials"], lines, strict=True):
        if trial["plan"] in {other["plan"] for other in finished} | stopped:
            continue  # equal plans are trained once
        may_stop = not trial["uniform"] and len(finished) >= MIN_TRIALS
        rungs = line["rungs"] if may_stop else []
        at = [k for k in range(len(rungs)) if hopeless(k, line, finished)][:1] if replayed else []
        if at or not trial["complete"]:
            stopped.add(trial["plan"])
            saved += line["cpu"] - rungs[at[0]][2] if at else line["cpu"] - trial["cpu"]
        else:
            finished.append(line)
        if rungs and trial["plan"] not in on_front:
            most += line["cpu"] - rungs[0][2]
        spent += line["cpu"]
    return len(stopped), len(stopped & on_front), len(on_front), saved, most, spent


def hopeless(rung: int, line: Row, finished: list[Row]) -> bool:
    """Whether ``line`` ends at its rung, by the rule of ``jointsearch.study.worker.early_stopping``."""
    others = [other for other in finished if len(other["rungs"]) > rung]
    rivals = [other["loss"] for other in finished if other["bytes"] <= line["bytes"]]
    forecast = Forecast.of([other["rungs"][rung][1] for other in others], [other["loss"] for other in others])
    chance = forecast.chance_below(min(rivals), line["rungs"][rung][1]) if rivals and forecast else 1.0
    return bool(chance < RISK)


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def plot() -> None:
    """Hypervolume over trials and over CPU seconds, a row for each study."""
    from plotly.subplots import make_subplots

    studies = Results.by_study()
    titles = ["trials", "CPU seconds of so many mean trials"]
    figure = make_subplots(rows=len(studies), cols=2, row_titles=list(studies), column_titles=titles)
    for row, results in enumerate(studies.values(), 1):
        for variant, color in zip(VARIANTS, COLORS, strict=True):
            for column, by_seconds in enumerate((False, True), 1):
                means = results.means(variant, by_seconds)
                figure.add_scatter(
                    x=list(means),
                    y=list(means.values()),
                    name=variant,
                    line={"color": color},
                    legendgroup=variant,
                    showlegend=(row, column) == (1, 1),
                    row=row,
                    col=column,
                )
    figure.update_layout(template="simple_white", width=1000, height=100 + 400 * len(studies))
    figure.update_yaxes(title="hypervolume", col=1)
    figure.write_image(HERE / "real.svg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "table", "plot"))
    parser.add_argument("file", nargs="?", default="quickstart", help="a study file or an embedded study")
    parser.add_argument("--samplers", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.action == "run":
        run(arguments.file, arguments.samplers, arguments.seeds, arguments.trials)
    elif arguments.action == "table":
        table()
    else:
        plot()


if __name__ == "__main__":
    main()
