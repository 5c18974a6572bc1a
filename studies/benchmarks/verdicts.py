"""How often a verdict is wrong where mixing cannot help, and how often it finds what can: simulated studies.

    python studies/benchmarks/verdicts.py [--studies 1000]    # writes verdicts.json and verdicts.md; minutes

Every study has the shipped ladder (``study.analysis.ladder``) of a made-up model of 12 blocks in two formats,
and a search that has measured 60 plans of random sizes, all under one seed, with noise. Its front is judged
by the shipped code (``verdict.compare``) under 2, 3, … 8 further seeds, one after another, and whoever looks
stops as soon as it says that searching has paid:

    equal       every trained plan is as good as every other
    bytes       quality = -0.1 ln(bytes): mixing cannot help
    unequal     the same, and the noise of a plan is between a third of the others' and three times theirs
    a rule      as bytes, and plans whose adapters are in the last blocks only are better by three times the
                noise of a trial: some of the search's, and two series of the ladder
    planted     as bytes, and the plans of the search that spare one sensitive layer are better by three times
                the noise of a trial
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jointsearch.config.space import SpaceSettings
from jointsearch.front.pareto import is_on_front
from jointsearch.plan.layout import ModelLayout
from jointsearch.space import SearchSpace
from jointsearch.study.analysis.equal_bytes import Entry
from jointsearch.study.analysis.ladder import Rung, ladder
from jointsearch.study.analysis.verdict import LEVEL, compare

HERE = Path(__file__).parent
SEEDS = range(9)
"""The search's, then the further ones."""
NOISE = 0.01
"""Of a trial, beside what its seed adds to all."""
NUM_SEARCHED = 60
LARGEST_RANK = 32
BLOCKS, WIDTH = 12, 256
GAIN = 3 * NOISE
"""Of what is planted."""
SHARE = 0.3
"""Of the search's plans that have it."""

WORLDS = "equal", "bytes", "unequal", "a rule", "planted"

Quality = Callable[[float], float]


def level(size: float) -> float:
    return 3.0


def by_bytes(size: float) -> float:
    return 3.0 - 0.1 * math.log(size)


def made_up_model() -> ModelLayout:
    """A decoder's attention and feed-forward matrices, and its embeddings."""
    shapes = {"attention": [4 * WIDTH, WIDTH], "mlp": [12 * WIDTH, WIDTH]}
    modules = [
        {"name": f"layers.{block}.{part}", "block": f"layers.{block}", "part": part, "shape": shape}
        for block in range(BLOCKS)
        for part, shape in shapes.items()
    ]
    embedding = {"name": "embed", "kind": "embedding", "block": "", "part": "embedding", "adaptable": False}
    return ModelLayout.model_validate(
        {
            "architecture": "",
            "dtype": "float16",
            "modules": [
                {**embedding, "shape": [8000, WIDTH]},
                *({**module, "kind": "linear"} for module in modules),
            ],
            "other_parameters": 0,
            "other_bytes": 0,
        }
    )


@functools.cache
def rungs() -> list[Rung]:
    layout = made_up_model()
    settings = SpaceSettings.model_validate({"bits": [4, 8], "ranks": [0, LARGEST_RANK]})
    return ladder(SearchSpace.build(layout, settings), layout)


def study(world: str, rng: np.random.Generator) -> tuple[list[Entry], list[Entry]]:
    """The search's points on the front under the first seed, and the ladder."""
    quality: Quality = level if world == "equal" else by_bytes
    of_seeds = 0.1 * rng.standard_normal(len(SEEDS))

    def entry(number: int, name: str, size: float, better: bool) -> Entry:
        spread = NOISE * (3.0 ** rng.uniform(-1, 1) if world == "unequal" else 1.0)
        losses = quality(size) - GAIN * better + of_seeds + spread * rng.standard_normal(len(SEEDS))
        return Entry(number, name, round(size), dict(zip(SEEDS, losses.tolist(), strict=True)))

    ruled = [rung.model_bytes for rung in rungs() if "last" in rung.series]
    known = [
        entry(0, rung.origin.name, rung.model_bytes, world == "a rule" and "last" in rung.series)
        for rung in rungs()
    ]
    all_sizes = [rung.model_bytes for rung in rungs()]
    searched = []
    for number in range(1, NUM_SEARCHED + 1):
        size, better = rng.uniform(min(all_sizes), max(all_sizes)), rng.random() < SHARE
        # the rule's plans are no larger than its rungs
        gains = world == "planted" or (world == "a rule" and min(ruled) <= size <= max(ruled))
        searched.append(entry(number, "", size, better and gains))
    everything = [*searched, *known]
    front = is_on_front([[plan.losses[0], plan.model_bytes] for plan in everything])
    return [plan for plan, keep in zip(everything, front, strict=True) if keep and plan.number], known


def verdicts(world: str, rng: np.random.Generator) -> dict[int, tuple[bool, bool]]:
    """By number of further seeds: whether searching has paid, and whether a point is beyond doubt."""
    points, ladder = study(world, rng)
    found = {}
    for num_seeds in range(2, len(SEEDS)):
        known = SEEDS[: num_seeds + 1]
        shown = [
            [Entry(e.number, e.name, e.model_bytes, {s: e.losses[s] for s in known}) for e in entries]
            for entries in (points, ladder)
        ]
        verdict = compare(*shown, searched=SEEDS[:1])
        found[num_seeds] = bool(verdict.paid), any(entry.significant for entry in verdict.comparisons)
    return found


def rates(world: str, num_studies: int) -> dict[str, float]:
    """The share of studies that say so, by further seeds, and of those that ever do."""
    rng = np.random.default_rng(20)
    said = [verdicts(world, rng) for _ in range(num_studies)]
    found = {str(n): float(np.mean([paid[n][0] for paid in said])) for n in said[0]}
    found["ever"] = float(np.mean([any(paid for paid, _ in each.values()) for each in said]))
    found["a point, ever"] = float(np.mean([any(point for _, point in each.values()) for each in said]))
    return found


def table(found: dict[str, dict[str, float]], num_studies: int) -> str:
    columns = list(next(iter(found.values())))
    lines = [
        "# Verdicts on simulated studies",
        "",
        f"The share of {num_studies} studies whose verdict says that searching has paid, by the number of",
        f"further seeds; of those that ever say so on the way from 2 to {len(SEEDS) - 1}; and that ever find",
        f"a point beyond doubt. The stated level is {LEVEL:.0%}. See `verdicts.py` for the worlds.",
        "",
        f"| world | {' | '.join(columns)} |",
        f"|{' --- |' * (len(columns) + 1)}",
    ]
    for world, row in found.items():
        lines.append(f"| {world} | {' | '.join(f'{row[column]:.1%}' for column in columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    num_studies = parser.parse_args().studies
    found = {world: rates(world, num_studies) for world in WORLDS}
    (HERE / "verdicts.json").write_text(json.dumps({"studies": num_studies, "rates": found}, indent=1) + "\n")
    (HERE / "verdicts.md").write_text(table(found, num_studies))
    print(table(found, num_studies))


if __name__ == "__main__":
    main()
