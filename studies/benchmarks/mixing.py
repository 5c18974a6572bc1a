"""Does mixing pay? Plans of searches in the arena against the ladder at equal bytes, paired by fresh seeds.

    cd studies/benchmarks
    python mixing.py arena/stories260k.yaml --lengths 1 4 --seeds 8 3

It writes ``mixing.md``, and goes on where it was stopped.

The plans below were found by searches of the arena, and were taken because they did well under its seeds of
the truth. So those choose the rivals, too, and the judges are seeds that nobody has seen: 1002, 1003, … All
losses are those on the test data; the runs are lines of ``arena-measurements.jsonl``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path

from arena import Arena
from arena_table import CONFIDENCE, TRUTH_SEEDS, row_of, with_interval

from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.study.analysis.equal_bytes import Entry, Rival, rivals_of
from jointsearch.study.analysis.ladder import Rung, ladder

REPORT = Path(__file__).with_suffix(".md")
PLANS = {
    "adapters in four parts of eleven": "4/0 | 4/0 4/1 4/0 4/1 4/1 | 4/0 4/0 4/0 4/0 4/1",
    "the same by hand, in the last blocks": "4/0 | 4/0 4/0 4/1 4/1 4/1 | 4/0 4/0 4/0 4/0 4/1",
    "ranks by part": "4/0 | 4/2 4/0 4/8 4/2 4/8 | 8/8 4/0 8/2 4/2 4/8",
    "bits and ranks by part": "4/0 | 4/3 4/3 8/8 4/8 4/6 | 8/6 8/6 8/2 4/0 8/2",
}
"""Bits/rank of the embedding, then of every block's feed-forward network, then of every block's attention."""
HEAD = """# Does mixing pay?

Plans that searches of the [arena](arena.md) have found against the ladder at equal bytes, by `mixing.py`: the
260-thousand-parameter Llama on WikiText-2, losses on the test data. Of all plans on the searches' fronts
three had done well under the arena's two seeds of the truth; a fourth is written by hand. The rival is the
line between two rungs, read at the plan's bytes: of all pairs around them the best under those two seeds or
the nearest, whichever is better under the judges. These are fresh seeds from {first} on. A gain is the
rival's loss less the plan's under the same seed, in nats: the mean ± half the {confidence:.0%} interval
(Student).

"""


def plan_of(text: str, like: Plan) -> Plan:
    """``like`` with formats and ranks as PLANS writes them."""
    ends, *blocks = (part.split() for part in text.split("|"))

    def choice(module: str) -> ModuleChoice:
        if not module.startswith("model.layers."):
            word = ends[0]
        else:
            _, _, block, kind, *_ = module.split(".")
            word = blocks[kind == "self_attn"][int(block)]
        bits, rank = map(int, word.split("/"))
        return ModuleChoice.model_validate({"bits": bits, "rank": rank})

    return like.model_copy(update={"modules": {module: choice(module) for module in like.modules}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1], help="in trials")
    parser.add_argument("--seeds", type=int, nargs="+", default=[8], help="of each length")
    arguments = parser.parse_args()
    arena = Arena(arguments.study, 0, [1])
    rungs = {rung.plan.digest: rung for rung in ladder(arena.space, arena.layout)}
    first = TRUTH_SEEDS[-1] + 1
    text = HEAD.format(first=first, confidence=CONFIDENCE)
    text += row_of("plan", "bytes", "steps", "its loss", "rival: from", "to", "gain", "seeds that gain")
    text += "\n" + row_of(*["---", "---:", "---:", "---:", "---", "---", "---:", "---:"]) + "\n"
    like = next(iter(rungs.values())).plan
    lengths = zip(arguments.lengths, arguments.seeds, strict=True)
    for (length, num_seeds), (name, written) in itertools.product(lengths, PLANS.items()):
        seeds = range(first, first + num_seeds)
        text += line_of(arena, name, plan_of(written, like), rungs, seeds, length) + "\n"
    text += (
        "\nBits/rank of the embedding | of each block's feed-forward network | of each block's attention:\n\n"
    )
    REPORT.write_text(text + "".join(f"- {name}: `{written}`\n" for name, written in PLANS.items()))


def line_of(arena: Arena, name: str, plan: Plan, rungs: dict[str, Rung], seeds: range, length: int) -> str:
    """Against the rival that is kinder under the judges, too."""

    def entry(plan: Plan, seeds: range | tuple[int, ...], length: int) -> Entry:
        rows = [arena.books.measure(plan, seed, length) for seed in seeds]
        return Entry(0, plan.digest, rows[0]["bytes"], {row["seed"]: row["loss"] for row in rows})

    known = [entry(rung.plan, TRUTH_SEEDS, 1) for rung in rungs.values()]
    mixed = entry(plan, seeds, length)
    rivals = []
    for chosen in rivals_of(entry(plan, TRUTH_SEEDS, 1), known, TRUTH_SEEDS):
        ends = (entry(rungs[end.name].plan, seeds, length) for end in (chosen.lower, chosen.upper))
        rivals.append(Rival(*ends, mixed.model_bytes))
    rival = min(rivals, key=lambda rival: statistics.fmean(rival.losses(seeds)))
    pairs = zip(rival.losses(seeds), (mixed.losses[seed] for seed in seeds), strict=True)
    gains = [other - mine for other, mine in pairs]
    return row_of(
        name,
        f"{mixed.model_bytes:,}",
        length * arena.config.calibration.steps,
        f"{mixed.mean(seeds):.4f}",
        *(
            f"{rungs[end.name].origin.name} ({end.model_bytes:,} bytes, {end.mean(seeds):.4f})"
            for end in (rival.lower, rival.upper)
        ),
        with_interval(gains),
        f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
    )


if __name__ == "__main__":
    main()
