"""The options of every group as numbers: exact bytes, and the features of the surrogate.

Bytes are additive: a plan weighs what its modules weigh plus what no plan changes
(``jointsearch.plan.cost``), so that

    model_bytes(x) = fixed_bytes + Σ_g bytes_g(x_g)

is exact for an option x_g = (bits, rank) of every group g. A tied weight belongs to the one module
that stores it and is counted there.

The features of option (b, r) of a group are steps, an interaction and nothing else:

    [bits ≥ b_2], …, [bits ≥ b_B], t_2(r), …, t_R(r), (1 − e(b)) · h(r)

with t_k(r) the share of the way from rank r_{k-1} to r_k on the scale log2(1 + r), e(b) ∈ [0, 1] how
much of the error of the lowest bits is left, and h(r) ∈ [0, 1] the way from the lowest rank to the
highest. A group whose modules differ (in a plan from outside of the space) has their mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jointsearch.plan.cost import adapter_element_bytes, adapter_parameters, weight_bytes
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.plan import Plan
from jointsearch.space import Group, SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ERROR = {4: 0.09, 8: 0.007, 16: 0.0}
"""Relative error of a weight in NF4 and int8."""


@dataclass(frozen=True)
class GroupOptions:
    """What one group can be."""

    group: Group
    bytes: Ints
    """(num_options,): of the group's weights, biases and adapters; bits vary slower than ranks."""
    features: Floats
    """(num_options, num_features)"""

    @property
    def kind(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """Groups of one kind differ in the number of their block alone: ``layers.*.mlp``."""
        return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", self.group.name), self.group.bits, self.group.ranks

    @property
    def num_bits_steps(self) -> int:
        return len(self.group.bits) - 1

    @property
    def num_rank_steps(self) -> int:
        return len(self.group.ranks) - 1

    @property
    def has_interaction(self) -> bool:
        return self.num_bits_steps > 0 and self.num_rank_steps > 0


@dataclass(frozen=True)
class Options:
    """All groups of a search space on one model."""

    space: SearchSpace
    layout: ModelLayout
    groups: tuple[GroupOptions, ...]
    fixed_bytes: int
    """Of the modules that are left out, and of what is no module."""

    @classmethod
    def of(cls, space: SearchSpace, layout: ModelLayout) -> Options:
        searched = {spec.name for group in space.groups for spec in group.modules}
        fixed_bytes = layout.other_bytes + sum(
            _module_bytes(space, spec, 16, 0) for spec in layout.modules if spec.name not in searched
        )
        groups = tuple(
            GroupOptions(
                group,
                np.array(
                    [
                        sum(_module_bytes(space, spec, bits, rank) for spec in group.modules)
                        for bits in group.bits
                        for rank in group.ranks
                    ],
                    dtype=np.int64,
                ),
                np.array([_features(group, bits, rank) for bits in group.bits for rank in group.ranks]),
            )
            for group in space.groups
        )
        return cls(space, layout, groups, fixed_bytes)

    @cached_property
    def offsets(self) -> Ints:
        """(num_groups + 1,): where the features of every group begin."""
        sizes = [entry.features.shape[1] for entry in self.groups]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def model_bytes(self, chosen: Ints) -> Ints:
        """Bytes of plans; ``chosen``: (…, num_groups), the position of every group's option."""
        parts = [entry.bytes[chosen[..., g]] for g, entry in enumerate(self.groups)]
        return np.asarray(self.fixed_bytes + np.sum(parts, axis=0))

    def design(self, chosen: Ints) -> Floats:
        """The features of plans, (num_plans, num_features); ``chosen``: (num_plans, num_groups)."""
        return np.concatenate([entry.features[chosen[:, g]] for g, entry in enumerate(self.groups)], axis=1)

    def values(self, chosen: Sequence[int] | Ints) -> dict[str, int]:
        """The Optuna parameters of a plan."""
        values = {}
        for entry, option in zip(self.groups, chosen, strict=True):
            bits, rank = divmod(int(option), len(entry.group.ranks))
            for name, position, choices in (
                ("bits", bits, entry.group.bits),
                ("rank", rank, entry.group.ranks),
            ):
                if len(choices) > 1:
                    values[f"{entry.group.name}.{name}"] = position
        return values

    def chosen(self, values: Mapping[str, int]) -> Ints:
        """The option of every group, (num_groups,), from Optuna parameters."""
        names = self._parameter_names
        return np.array([values.get(bits, 0) * num + values.get(rank, 0) for bits, rank, num in names])

    @cached_property
    def _parameter_names(self) -> list[tuple[str, str, int]]:
        return [
            (f"{entry.group.name}.bits", f"{entry.group.name}.rank", len(entry.group.ranks))
            for entry in self.groups
        ]

    def plan(self, chosen: Ints) -> Plan:
        return self.space.plan(self.values(chosen))

    def features_of(self, plan: Plan) -> Floats:
        """The features of any plan of the model, (num_features,), also from outside of the space."""
        rows = []
        for entry in self.groups:
            choices = [
                _features(entry.group, plan.modules[spec.name].bits, plan.modules[spec.name].rank, spec)
                for spec in entry.group.modules
            ]
            weights = np.array([spec.num_weights for spec in entry.group.modules], dtype=float)
            rows.append(_weighted_mean(np.array(choices), weights, entry))
        return np.concatenate(rows)


def _weighted_mean(rows: Floats, weights: Floats, entry: GroupOptions) -> Floats:
    """The mean over modules, without those that a step cannot change (they are NaN there)."""
    known = ~np.isnan(rows)
    total = (known * weights[:, None]).sum(axis=0)
    summed = (np.where(known, rows, 0.0) * weights[:, None]).sum(axis=0)
    mean: Floats = np.divide(summed, total, out=np.zeros(entry.features.shape[1]), where=total > 0)
    return mean


def _features(group: Group, bits: int, rank: int, spec: ModuleSpec | None = None) -> Floats:
    """The features of a choice; NaN where ``spec`` cannot have another one."""
    bits_steps = np.array([float(bits >= step) for step in group.bits[1:]])
    scale = np.log2(1.0 + np.array(group.ranks))
    rank_steps = np.clip((np.log2(1.0 + rank) - scale[:-1]) / np.diff(scale), 0.0, 1.0)
    if spec is not None and not spec.quantizable:
        bits_steps[:] = np.nan
    if spec is not None and not spec.adaptable:
        rank_steps[:] = np.nan
    if len(group.bits) == 1 or len(group.ranks) == 1:
        return np.concatenate([bits_steps, rank_steps])
    interaction = (bits_steps @ bits_curve(group.bits)) * (rank_steps @ rank_curve(group.ranks))
    return np.concatenate([bits_steps, rank_steps, [interaction]])


def bits_curve(bits: tuple[int, ...]) -> Floats:
    """The share of the way from the lowest to the highest bits that each step is, by weight error."""
    steps = -np.diff([ERROR[choice] for choice in bits])
    return steps / steps.sum() if len(steps) else steps


def rank_curve(ranks: tuple[int, ...]) -> Floats:
    """The share of the way from the lowest to the highest rank that each step is, on log2(1 + rank)."""
    steps = np.diff(np.log2(1.0 + np.array(ranks, dtype=float)))
    return steps / steps.sum() if len(steps) else steps


def _module_bytes(space: SearchSpace, spec: ModuleSpec, bits: int, rank: int) -> int:
    bits, rank = bits if spec.quantizable else 16, rank if spec.adaptable else 0
    bias = 2 * spec.shape[0] * spec.has_bias
    adapter = adapter_parameters(spec, rank, space.lora) * adapter_element_bytes(space.lora)
    return weight_bytes(spec, bits, space.quantization) + bias + adapter
