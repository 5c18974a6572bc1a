"""Keeps what samplers propose within a study's limits (``plan.limits``): no other plan is ever tried.

A proposal that exceeds a limit is stepped down: random groups get other options that lower what is exceeded
most, until the plan fits. ``sampler: additive`` knows the limits beforehand, by its knapsack.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jointsearch.errors import StudyError
from jointsearch.knapsack import Knapsack
from jointsearch.plan.limits import Limits
from jointsearch.search.additive.options import Options

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Bounds:
    """A study's limits on the options of its groups."""

    options: Options
    limits: Limits

    def within(self, chosen: Ints, rng: np.random.Generator) -> Ints:
        """``chosen``, (num_groups,), or a plan below it that fits; raises ``StudyError`` where none does."""
        excess = self._excess(chosen)
        chosen = chosen.copy()
        while excess > 0:
            for group, option in self._others(chosen, rng):
                changed = chosen.copy()
                changed[group] = option
                if (new := self._excess(changed)) < excess:
                    chosen, excess = changed, new
                    break
            else:
                raise StudyError(
                    "some plan must be within the limits of search_space, but the leanest near the proposed "
                    f"one exceeds them by {excess:.1%}; raise the limits"
                )
        return chosen

    def bounded(self, knapsack: Knapsack) -> Knapsack:
        """The same choice within the limits, as far as memory is a sum over groups."""
        if self.limits.max_model_bytes is not None:
            knapsack = knapsack.at_most(self.limits.max_model_bytes - self.options.fixed_bytes)
        if self.limits.max_training_memory is not None:
            fixed, sizes = self._memory
            knapsack = knapsack.also_within(sizes, self.limits.max_training_memory - fixed)
        return knapsack

    def _excess(self, chosen: Ints) -> float:
        return self.limits.excess(self.options.plan(chosen))

    def _others(self, chosen: Ints, rng: np.random.Generator) -> list[tuple[int, int]]:
        """All changes of one group, in a random order."""
        found = [
            (group, option)
            for group, entry in enumerate(self.options.groups)
            for option in range(len(entry.bytes))
            if option != chosen[group]
        ]
        return [found[at] for at in rng.permutation(len(found))]

    @cached_property
    def _memory(self) -> tuple[int, list[Ints]]:
        """What training the largest plan takes, and by how much less it is with each option of each group."""
        largest = np.array([len(entry.bytes) - 1 for entry in self.options.groups])
        most = self.limits.training_memory(self.options.plan(largest))
        sizes = []
        for group, entry in enumerate(self.options.groups):
            changes = []
            for option in range(len(entry.bytes)):
                changed = largest.copy()
                changed[group] = option
                changes.append(self.limits.training_memory(self.options.plan(changed)) - most)
            sizes.append(np.array(changes, dtype=np.int64))
        return most, sizes
