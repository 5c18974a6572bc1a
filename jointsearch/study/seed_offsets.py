"""What a seed adds to every plan's value: the order of the examples is easy or hard for all of them alike.

A plan that was measured with further seeds could not be compared with one that was not, if these seeds were
luckier than the study's own. So a value y of plan p under seed s is taken as

    y[p, s] = a[p] + c[s] + ε,    c[the seed that most plans have] = 0

and c is the least-squares estimate of the two-way layout without interaction (Searle, Linear Models, 1971,
chapter 7), from the plans that have several seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

MIN_PLANS = 2
"""With several seeds: the offset of one plan alone is also what its noise may be."""

Seed = int | None


def seed_offsets(values: Sequence[Mapping[Seed, float]]) -> dict[Seed, float]:
    """The offset c of every seed, in the values' units, from each plan's value by seed.

    All are 0 where fewer than two plans have several seeds.
    """
    counts = Counter(seed for by_seed in values for seed in by_seed)
    repeated = [by_seed for by_seed in values if len(by_seed) > 1]
    offsets = dict.fromkeys(counts, 0.0)
    if len(repeated) < MIN_PLANS:
        return offsets
    (reference, _), *others = counts.most_common()
    column = {seed: number for number, (seed, _) in enumerate(others)}
    rows, right = [], []
    for by_seed in repeated:
        seen = np.zeros((len(by_seed), len(column)))
        for row, seed in enumerate(by_seed):
            if seed != reference:
                seen[row, column[seed]] = 1.0
        found = np.array(list(by_seed.values()))
        # within a plan its own effect is the mean
        rows.append(seen - seen.mean(axis=0))
        right.append(found - found.mean())
    estimate, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right))
    return offsets | {seed: float(estimate[number]) for seed, number in column.items()}
