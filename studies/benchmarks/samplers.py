"""Compares samplers on problems whose exact front is known, without training anything.

    python studies/benchmarks/samplers.py run [--seeds 10] [--trials 200] [--samplers additive nsga2 …]
    python studies/benchmarks/samplers.py table > studies/benchmarks/samplers.md
    python studies/benchmarks/samplers.py plot       # samplers.svg; needs the extra plot and a Chrome
    python studies/benchmarks/samplers.py proposals

``run`` adds what is missing to ``samplers.jsonl`` beside this file, one line per run; ``table`` prints
what is there as Markdown, ``plot`` draws it, and ``proposals`` how long a proposal takes at 448 parameters.

A problem has 12 or 32 blocks of Llama's shapes, with one group for attention and one for the
feed-forward network of each (24 or 64 groups; 4, 8 or 16 bits; rank 0, 4, 8 or 16). With weight errors e
(0.09, 0.007, 0) and h(r) = 0.5 / (1 + r)

    additive      loss = 1.8 + Σ_g (u_g e(b_g) + v_g h(r_g))
    interactions  + Σ_g i_g e(b_g) h(r_g) / 0.09 + Σ_g j_g e(b_g) e(b_{g+1}) / 0.09
    noise         additive; a trial measures the loss plus noise of 0.15 standard deviations of random plans
                  (0.007 nats where plans of a 1 M-parameter Llama spread over 0.045)

u, v are log-normal with a trend over depth and a level per part. The interactions between neighbours
are what no additive model can see. Hypervolume is that of the true losses of the plans on the measured
front, over that of the exact front, in the box below the worst uniform plan. ``warm`` runs begin with
the 12 uniform plans.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState, create_trial

from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import SearchSettings
from jointsearch.front.pareto import hypervolume, is_on_front
from jointsearch.knapsack import undominated
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.search.additive.options import Options
from jointsearch.search.optuna_compat import generation_of
from jointsearch.search.samplers import build_sampler, distributions
from jointsearch.space import SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESULTS = Path(__file__).with_suffix(".jsonl")
SAMPLERS = ("additive", "nsga2", "tpe", "random", "qr-adaptor", "gp")
KINDS = ("additive", "interactions", "noise")
COUNTS = (10, 20, 30, 40, 50, 75, 100, 150, 200)
NOISE = 0.15
ERRORS = np.array([0.09, 0.007, 0.0])
RANKS = np.array([0, 4, 8, 16])
GP_TRIALS = 75
"""GPSampler takes seconds a trial at 48 parameters: it runs no longer, on 24 groups alone."""


def llama_layout(num_blocks: int, width: int = 1024) -> ModelLayout:
    shapes = {
        "self_attn.q_proj": ((width, width), Part.ATTENTION),
        "self_attn.v_proj": ((width // 4, width), Part.ATTENTION),
        "mlp.up_proj": ((4 * width, width), Part.MLP),
        "mlp.down_proj": ((width, 4 * width), Part.MLP),
    }
    modules = tuple(
        ModuleSpec(
            name=f"model.layers.{block}.{name}",
            kind="linear",
            block=f"layers.{block}",
            part=part,
            shape=shape,
        )
        for block in range(num_blocks)
        for name, (shape, part) in shapes.items()
    )
    return ModelLayout(
        architecture="Llama", dtype="bfloat16", modules=modules, other_parameters=10**6, other_bytes=2 * 10**6
    )


@dataclass(frozen=True)
class Problem:
    """A search space and the true loss of every plan of it."""

    kind: str
    num_groups: int
    seed: int

    @cached_property
    def layout(self) -> ModelLayout:
        return llama_layout(self.num_groups // 2)

    @cached_property
    def space(self) -> SearchSpace:
        return SearchSpace.build(self.layout, SpaceSettings())

    @cached_property
    def options(self) -> Options:
        return Options.of(self.space, self.layout)

    @cached_property
    def tables(self) -> tuple[Floats, Floats]:
        """What options add, (num_groups, 12), and the weights of neighbours, (num_groups - 1,)."""
        rng = np.random.default_rng(self.seed)
        depth = np.linspace(-1, 1, self.num_groups)
        part = np.arange(self.num_groups) % 2
        weights = []
        for _ in range(2):
            trend, level = rng.normal(0, 0.5), rng.normal(0, 0.5, 2)
            drawn = np.exp(trend * depth + level[part] + rng.normal(0, 0.5, self.num_groups))
            weights.append(drawn / drawn.sum())
        quantized, adapted = weights[0] * 6, weights[1]  # bits and ranks matter about equally
        error, lack = np.repeat(ERRORS, len(RANKS)), np.tile(0.5 / (1 + RANKS), len(ERRORS))
        table = quantized[:, None] * error + adapted[:, None] * lack
        neighbours = np.zeros(self.num_groups - 1)
        if self.kind == "interactions":
            within = adapted * rng.normal(0.3, 0.3, self.num_groups)
            table = table + within[:, None] * error * lack / 0.09
            neighbours = (
                np.sqrt(quantized[1:] * quantized[:-1]) * rng.normal(0.2, 0.2, len(neighbours)) / 0.09
            )
        return table, neighbours

    def losses(self, chosen: Ints) -> Floats:
        """True losses; ``chosen``: (num_plans, num_groups)."""
        table, neighbours = self.tables
        errors = ERRORS[chosen // len(RANKS)]
        own = table[np.arange(self.num_groups), chosen].sum(axis=1)
        return np.asarray(1.8 + own + (errors[:, 1:] * errors[:, :-1]) @ neighbours)

    @cached_property
    def noise(self) -> float:
        if self.kind != "noise":
            return 0.0
        rng = np.random.default_rng(self.seed)
        return NOISE * float(self.losses(rng.integers(0, 12, (500, self.num_groups))).std())

    @cached_property
    def uniform(self) -> list[dict[str, int]]:
        return [baseline.params for baseline in self.space.baselines()]

    @cached_property
    def reference(self) -> tuple[float, float]:
        """The corner of the worst uniform plan: loss, bytes."""
        chosen = np.array([self.options.chosen(values) for values in self.uniform])
        return float(self.losses(chosen).max()), float(self.options.model_bytes(chosen).max())

    @cached_property
    def exact(self) -> float:
        """The hypervolume of the exact front, by dynamic programming along the chain of groups."""
        table, neighbours = self.tables
        sizes = np.array([entry.bytes for entry in self.options.groups])
        per_bits = [slice(bits * len(RANKS), (bits + 1) * len(RANKS)) for bits in range(len(ERRORS))]
        states = [(sizes[0][part], table[0][part]) for part in per_bits]
        states = [(s[kept], v[kept]) for s, v in states for kept in [undominated(s, v)]]
        for group in range(1, self.num_groups):
            following = []
            for bits, part in enumerate(per_bits):
                weight = neighbours[group - 1] * ERRORS[bits]
                before_sizes = np.concatenate([s for s, _ in states])
                before_values = np.concatenate(
                    [v + weight * ERRORS[previous] for previous, (_, v) in enumerate(states)]
                )
                new_sizes = (before_sizes[:, None] + sizes[group][part]).ravel()
                new_values = (before_values[:, None] + table[group][part]).ravel()
                kept = undominated(new_sizes, new_values)
                following.append((new_sizes[kept], new_values[kept]))
            states = following
        all_sizes = np.concatenate([s for s, _ in states]) + self.options.fixed_bytes
        all_losses = np.concatenate([v for _, v in states]) + 1.8
        return hypervolume(np.stack([all_losses, all_sizes], axis=1), self.reference)


def simulate(problem: Problem, sampler: str, *, warm: bool, seed: int, trials: int) -> dict[str, Any]:
    """One study in memory: relative hypervolume after some counts of trials, and seconds per proposal."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    dist = distributions(problem.space)
    rng = np.random.default_rng((seed, problem.seed))
    enqueued = problem.uniform if warm else []
    for values in enqueued:
        study.add_trial(
            create_trial(
                state=TrialState.WAITING, params=values, distributions=dist, system_attrs=generation_of()
            )
        )
    study.sampler = build_sampler(
        SearchSettings(sampler=sampler, trials=trials, seed=seed),
        problem.space,
        problem.layout,
        "loss",
        num_enqueued=len(enqueued),
    )
    rows, measured, seconds = [], [], []
    for number in range(trials):
        start = time.perf_counter()
        trial = study.ask()
        for name, distribution in dist.items():
            trial.suggest_int(name, distribution.low, distribution.high)
        if number >= len(enqueued):
            seconds.append(time.perf_counter() - start)
        chosen = problem.options.chosen(trial.params)
        loss = float(problem.losses(chosen[None])[0]) + problem.noise * rng.standard_normal()
        size = float(problem.options.model_bytes(chosen))
        study.tell(trial, [loss, size])
        rows.append(chosen)
        measured.append((loss, size))
    truth = np.stack([problem.losses(np.array(rows)), np.array(measured)[:, 1]], axis=1)
    reached = {}
    for count in COUNTS:
        if count <= trials:
            front = is_on_front(measured[:count])
            reached[count] = hypervolume(truth[:count][front], problem.reference) / problem.exact
    return {
        "kind": problem.kind,
        "groups": problem.num_groups,
        "sampler": sampler,
        "warm": warm,
        "seed": seed,
        "hypervolume": {str(count): round(value, 5) for count, value in reached.items()},
        "median_proposal_seconds": round(statistics.median(seconds), 4),
    }


def run(samplers: list[str], num_seeds: int, trials: int) -> None:
    done = {_key(line) for line in read()}
    for seed in range(num_seeds):
        for warm in (True, False):
            for groups in (24, 64):
                for kind in KINDS:
                    for sampler in samplers:
                        if sampler == "gp" and groups > 24:
                            continue
                        key = (kind, groups, sampler, warm, seed)
                        if key in done:
                            continue
                        count = min(trials, GP_TRIALS) if sampler == "gp" else trials
                        result = simulate(
                            Problem(kind, groups, seed), sampler, warm=warm, seed=seed, trials=count
                        )
                        with RESULTS.open("a") as file:
                            file.write(json.dumps(result) + "\n")
                        last = list(result["hypervolume"].values())
                        print(*key, *last, result["median_proposal_seconds"], flush=True)


def read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("kind", "groups", "sampler", "warm", "seed"))


def table() -> None:
    """Means over seeds."""
    results: defaultdict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for line in read():
        results[line["groups"], line["kind"], not line["warm"], line["sampler"]].append(line)
    means = {
        key: {
            count: statistics.fmean(values)
            for count in COUNTS
            if (values := [r["hypervolume"][str(count)] for r in lines if str(count) in r["hypervolume"]])
        }
        for key, lines in results.items()
    }
    print("# Samplers on problems whose front is known\n")
    print("Share of the exact front's hypervolume after so many trials, mean over seeds (0, 1, …).")
    print("2 cores of an AMD EPYC, shared with other work; one thread, niced. See `samplers.py`.\n")
    _print_row("groups", "problem", "start", "sampler", "seeds", *COUNTS, "s/proposal")
    _print_row(*["---"] * (6 + len(COUNTS)))
    for key, lines in sorted(results.items()):
        groups, kind, cold, sampler = key
        cells = [f"{means[key][count]:.3f}" if count in means[key] else "" for count in COUNTS]
        seconds = statistics.median(line["median_proposal_seconds"] for line in lines)
        start = "cold" if cold else "warm"
        _print_row(groups, kind, start, sampler, len(lines), *cells, f"{seconds:.3f}")


def _print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def plot() -> None:
    """Hypervolume over trials, one panel per problem; lines are means over seeds."""
    from plotly.subplots import make_subplots

    lines = read()
    panels = [(groups, warm) for groups in (24, 64) for warm in (True, False)]
    titles = [f"{groups} groups, {'warm' if warm else 'cold'}" for groups, warm in panels]
    figure = make_subplots(rows=len(panels), cols=len(KINDS), row_titles=titles, column_titles=list(KINDS))
    colors = dict(
        zip(SAMPLERS, ("#0072b2", "#d55e00", "#009e73", "#999999", "#cc79a7", "#e69f00"), strict=True)
    )
    for row, (groups, warm) in enumerate(panels, 1):
        for column, kind in enumerate(KINDS, 1):
            for sampler, color in colors.items():
                curves = [
                    line["hypervolume"] for line in lines if _key(line)[:4] == (kind, groups, sampler, warm)
                ]
                if not curves:
                    continue
                counts = [count for count in COUNTS if str(count) in curves[0]]
                means = [statistics.fmean(curve[str(count)] for curve in curves) for count in counts]
                figure.add_scatter(
                    x=counts,
                    y=means,
                    name=sampler,
                    line={"color": color},
                    legendgroup=sampler,
                    showlegend=(row, column) == (1, 1),
                    row=row,
                    col=column,
                )
    figure.update_layout(template="simple_white", width=1000, height=1100)
    figure.update_yaxes(title="hypervolume", col=1)
    figure.update_xaxes(title="trials", row=len(panels))
    figure.write_image(RESULTS.with_suffix(".svg"))


def proposals() -> None:
    """Seconds of proposals at 448 parameters and 1000 trials, the first of a process and later ones."""
    problem = Problem("noise", 224, 0)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 12, (1000, problem.num_groups))
    losses = problem.losses(chosen) + problem.noise * rng.standard_normal(1000)
    study = optuna.create_study(directions=["minimize", "minimize"])
    dist = distributions(problem.space)
    study.add_trials(
        [
            create_trial(
                values=[float(loss), float(problem.options.model_bytes(row))],
                params=problem.options.params(row),
                distributions=dist,
            )
            for row, loss in zip(chosen, losses, strict=True)
        ]
    )
    seconds, cpu_seconds = [], []
    for attempt in range(6):
        if attempt < 3:
            study.sampler = build_sampler(SearchSettings(), problem.space, problem.layout, "loss")
        start, cpu_start = time.perf_counter(), time.process_time()
        name, distribution = next(iter(dist.items()))
        study.ask().suggest_int(name, distribution.low, distribution.high)  # proposes all of them
        seconds.append(round(time.perf_counter() - start, 3))
        cpu_seconds.append(round(time.process_time() - cpu_start, 3))
    result = {
        "parameters": len(dist),
        "trials": 1000,
        "first_proposals_seconds": seconds[:3],
        "first_proposals_cpu_seconds": cpu_seconds[:3],
        "later_proposals_seconds": seconds[3:],
        "later_proposals_cpu_seconds": cpu_seconds[3:],
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=1))
    RESULTS.with_name("proposals.json").write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "table", "plot", "proposals"))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.action == "run":
        run(arguments.samplers, arguments.seeds, arguments.trials)
    elif arguments.action == "table":
        table()
    elif arguments.action == "plot":
        plot()
    else:
        proposals()


if __name__ == "__main__":
    main()
