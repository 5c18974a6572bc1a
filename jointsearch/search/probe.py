"""What a cheap probe says of plans before they are trained: the prior of the surrogate, not its data.

A probe has scores of whole plans (of a weight-sharing run), or of every choice of every group (of
sensitivities), or both. Lower is better, in any unit: how much a score means is learned from trials.
Here is the plain data alone, as it is stored with the study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jointsearch.groups import Group
from jointsearch.plan.record import Record
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.search.additive.options import Options, rank_curve
from jointsearch.space import SearchSpace

Floats = NDArray[np.float64]


class ScoredPlan(Record):
    """A plan by its Optuna parameters (positions in the choices)."""

    values: dict[str, int]
    score: float


class GroupScores(Record):
    """Scores of one group's choices, in the order of the space; empty where nothing is known."""

    bits: tuple[float, ...] = ()
    ranks: tuple[float, ...] = ()


class Probe(Record):
    """The result of a probe. Lower scores are better, also where the study's quality is maximized."""

    kind: Literal["weight-sharing", "sensitivity"]
    plans: tuple[ScoredPlan, ...] = ()
    groups: dict[str, GroupScores] = {}
    """By the group's name."""
    seconds: float = 0.0
    """What it took."""


def sensitivity_probe(sensitivities: Sensitivities, space: SearchSpace, seconds: float = 0.0) -> Probe:
    """Scores of every group's choices: the output error that bits cause, and how much the task asks for rank.

    A choice of bits scores the sum of its modules' relative output errors. A rank takes its share of the way
    to the highest, on log2(1 + rank), off the trace of the Fisher of the modules that it adapts.
    """
    groups = {group.name: _scores(group, sensitivities) for group in space.groups}
    return Probe(kind="sensitivity", groups=groups, seconds=seconds)


def _scores(group: Group, sensitivities: Sensitivities) -> GroupScores:
    measured = sensitivities.modules
    errors = [
        sum(measured[spec.name].output_error.get(name, 0.0) for spec in group.modules)
        for name in group.formats
    ]
    fisher = sum(measured[spec.name].fisher * spec.num_weights for spec in group.modules if spec.adaptable)
    shares = np.concatenate([[0.0], np.cumsum(rank_curve(group.ranks))])
    return GroupScores(bits=tuple(errors), ranks=tuple((-fisher * shares).tolist()))


def group_effects(probe: Probe, options: Options) -> Floats:
    """The scores of groups as effects of features, (num_features, 2): of bits, and of ranks.

    A step's effect is the difference of the scores before and after it.
    """
    effects = np.zeros((int(options.offsets[-1]), 2))
    for start, entry in zip(options.offsets, options.groups, strict=False):
        scores = probe.groups.get(entry.group.name, GroupScores())
        num_bits, num_ranks = entry.num_format_steps, entry.num_rank_steps
        effects[start : start + num_bits, 0] = _steps(scores.bits, num_bits)
        effects[start + num_bits : start + num_bits + num_ranks, 1] = _steps(scores.ranks, num_ranks)
    return effects


def _steps(scores: Sequence[float], num_steps: int) -> Floats:
    return np.diff(scores) if len(scores) == num_steps + 1 else np.zeros(num_steps)
