"""The options of every group as numbers: exact bytes, and the features of the surrogate.

Bytes are additive: a plan weighs what its modules weigh plus what no plan changes
(``jointsearch.plan.cost``), so that

    model_bytes(x) = fixed_bytes + Σ_g bytes_g(x_g)

is exact for an option x_g = (format, rank) of every group g. A tied weight belongs to the one module
that stores it and is counted there.

The features of option (f, r) of a group are steps, an interaction and nothing else:

    [f ≥ f_2], …, [f ≥ f_B], t_2(r), …, t_R(r), (1 − e(f)) · h(r)

with t_k(r) the share of the way from rank r_{k-1} to r_k on the scale log2(1 + r), e(f) ∈ [0, 1] how
much of the error of the coarsest format is left, and h(r) ∈ [0, 1] the way from the lowest rank to the
highest. A group whose modules differ (in a plan from outside of the space) has their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jointsearch.groups import Group
from jointsearch.plan.cost import module_bytes
from jointsearch.plan.formats import FORMATS
from jointsearch.plan.layout import ModelLayout, ModuleSpec, across_blocks
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.space import LEARNING_RATE, SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GroupOptions:
    """What one group can be."""

    group: Group
    bytes: Ints
    """(num_options,): of the group's weights, biases and adapters; formats vary slower than ranks."""
    features: Floats
    """(num_options, num_features)"""

    @property
    def kind(self) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
        """Groups of one kind differ in the number of their block alone: ``layers.*.mlp``."""
        return across_blocks(self.group.name), self.group.formats, self.group.ranks

    @property
    def num_format_steps(self) -> int:
        return len(self.group.formats) - 1

    @property
    def num_rank_steps(self) -> int:
        return len(self.group.ranks) - 1

    @property
    def has_interaction(self) -> bool:
        return self.num_format_steps > 0 and self.num_rank_steps > 0


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
            _module_bytes(space, spec, space.fixed[spec.name])
            for spec in layout.modules
            if spec.name not in searched
        )
        groups = tuple(
            GroupOptions(
                group,
                np.array(
                    [
                        sum(
                            _module_bytes(space, spec, group.choice(spec, weight_format, rank))
                            for spec in group.modules
                        )
                        for weight_format in group.formats
                        for rank in group.ranks
                    ],
                    dtype=np.int64,
                ),
                np.array([_features(group, f, rank) for f in group.formats for rank in group.ranks]),
            )
            for group in space.groups
        )
        return cls(space, layout, groups, fixed_bytes)

    @cached_property
    def offsets(self) -> Ints:
        """(num_groups + 1,): where the features of every group begin."""
        sizes = [entry.features.shape[1] for entry in self.groups]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def random(self, rng: np.random.Generator) -> Ints:
        """The options of a plan drawn uniformly, (num_groups,)."""
        return rng.integers([len(entry.bytes) for entry in self.groups])

    def model_bytes(self, chosen: Ints) -> Ints:
        """Bytes of plans; ``chosen``: (…, num_groups), the position of every group's option."""
        parts = [entry.bytes[chosen[..., g]] for g, entry in enumerate(self.groups)]
        return np.asarray(self.fixed_bytes + np.sum(parts, axis=0))

    def design(self, chosen: Ints) -> Floats:
        """The features of plans, (num_plans, num_features); ``chosen``: (num_plans, num_groups)."""
        return np.concatenate([entry.features[chosen[:, g]] for g, entry in enumerate(self.groups)], axis=1)

    def params(self, chosen: Sequence[int] | Ints, rate: int = -1) -> dict[str, int]:
        """The Optuna parameters of a plan; ``rate``: the position of its learning rate, if it has one."""
        params = {LEARNING_RATE: rate} if rate >= 0 else {}
        for entry, option in zip(self.groups, chosen, strict=True):
            group = entry.group
            position, rank = divmod(int(option), len(group.ranks))
            if len(group.formats) > 1:
                params[group.format_parameter] = position
            if len(group.ranks) > 1:
                params[group.rank_parameter] = rank
        return params

    def chosen(self, params: Mapping[str, int]) -> Ints:
        """The option of every group, (num_groups,), from Optuna parameters."""
        names = self._parameter_names
        return np.array([params.get(f, 0) * num + params.get(rank, 0) for f, rank, num in names])

    @cached_property
    def _parameter_names(self) -> list[tuple[str, str, int]]:
        groups = [entry.group for entry in self.groups]
        return [(group.format_parameter, group.rank_parameter, len(group.ranks)) for group in groups]

    def plan(self, chosen: Ints) -> Plan:
        return self.space.plan(self.params(chosen))

    def features_of(self, plan: Plan) -> Floats:
        """The features of any plan of the model, (num_features,), also from outside of the space."""
        rows = []
        for entry in self.groups:
            choices = [
                _features(entry.group, plan.modules[spec.name].format, plan.modules[spec.name].rank, spec)
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


def _features(group: Group, weight_format: str, rank: int, spec: ModuleSpec | None = None) -> Floats:
    """The features of a choice; NaN where ``spec`` cannot have another one."""
    format_steps = _format_steps(group, weight_format)
    scale = np.log2(1.0 + np.array(group.ranks))
    rank_steps = np.clip((np.log2(1.0 + rank) - scale[:-1]) / np.diff(scale), 0.0, 1.0)
    if spec is not None and not spec.quantizable:
        format_steps[:] = np.nan
    if spec is not None and not spec.adaptable:
        rank_steps[:] = np.nan
    if len(group.formats) == 1 or len(group.ranks) == 1:
        return np.concatenate([format_steps, rank_steps])
    interaction = (format_steps @ format_curve(group.formats)) * (rank_steps @ rank_curve(group.ranks))
    return np.concatenate([format_steps, rank_steps, [interaction]])


def _format_steps(group: Group, weight_format: str) -> Floats:
    """Which steps from the coarsest are behind; a format that the group lacks has those of no more bits."""
    if weight_format in group.formats:
        return (np.arange(1, len(group.formats)) <= group.formats.index(weight_format)).astype(float)
    return np.array([float(FORMATS[weight_format].bits >= bits) for bits in group.bits[1:]])


def format_curve(formats: tuple[str, ...]) -> Floats:
    """The share of the way from the coarsest to the finest format that each step is, by weight error."""
    steps = -np.diff([FORMATS[name].relative_error for name in formats])
    if len(steps) and steps.sum() <= 0:
        return np.full(len(steps), 1.0 / len(steps))
    return np.asarray(steps / steps.sum()) if len(steps) else steps


def rank_curve(ranks: tuple[int, ...]) -> Floats:
    """The share of the way from the lowest to the highest rank that each step is, on log2(1 + rank)."""
    steps = np.diff(np.log2(1.0 + np.array(ranks, dtype=float)))
    return steps / steps.sum() if len(steps) else steps


def _module_bytes(space: SearchSpace, spec: ModuleSpec, choice: ModuleChoice) -> int:
    return module_bytes(spec, choice.format, choice.rank, space.quantization, space.lora)
