"""What of a search fits a device: foretold before any weight is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from jointsearch.assemble import device_memory, read_layout, read_memory, with_labels
from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyFileError, UnsupportedError
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.limits import Limits
from jointsearch.plan.memory import MemoryProfile, training_memory
from jointsearch.space import SearchSpace, build_space

REMEDIES = (
    "lower calibration.batch_size or the task's sequence length, set training.gradient_checkpointing: true "
    "and with it training.stream_layers: true, or, on a GPU, training.offload_activations: true, or offer "
    "fewer bits"
)


@dataclass(frozen=True)
class FitRow:
    """A uniform plan on the device."""

    label: str
    training_memory: int
    """Bytes that a step takes at once, at the study's batch size."""
    serving_memory: int
    headroom: int
    """Bytes that are left; below 0 where it does not fit."""
    largest_batch: int
    """About the most examples that a batch can have; 0 where not even one fits."""


@dataclass(frozen=True)
class Fit:
    """The uniform plans of a study's space on a device, the leanest first."""

    device: str
    device_memory: int
    batch_size: int
    rows: tuple[FitRow, ...]

    @property
    def fitting(self) -> tuple[FitRow, ...]:
        return tuple(row for row in self.rows if row.headroom >= 0)

    @property
    def sentences(self) -> list[str]:
        """Two lines: what training takes, and whether that fits; one where there is nothing to train."""
        if not self.rows:
            return ["no uniform plan of the search has adapters and is within its limits"]
        low, high = (format_bytes(row.training_memory) for row in (self.rows[0], self.rows[-1]))
        takes = f"training takes {low} ({self.rows[0].label}) to {high} ({self.rows[-1].label})"
        first = f"{takes} at batch {self.batch_size}, as foretold"
        has = f"the {self.device} has {format_bytes(self.device_memory)}"
        if not self.fitting:
            return [first, f"{has}: no plan fits; {REMEDIES}"]
        if len(self.fitting) == len(self.rows):
            return [first, f"{has}: every plan of the search fits"]
        largest = self.fitting[-1]
        return [
            first,
            f"{has}: up to {largest.label}; search_space.max_training_memory keeps the search within it",
        ]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sentences": self.sentences}


def fit_device(config: StudyConfig, *, memory_bytes: int | None = None, device: str | None = None) -> Fit:
    """Which uniform plans of ``config`` fit a device of ``memory_bytes``, at which batch size.

    By default the device and the memory are this machine's. ``device``: ``cpu`` or ``cuda``. No weights are
    read. Raises ``UnsupportedError`` where the memory of this model cannot be foretold.
    """
    config = with_labels(config, None)
    layout = read_layout(config)
    space = build_space(config, layout)
    batch_size = config.calibration.batch_size
    profiles = [read_memory(config, layout, device, size) for size in (batch_size, 2 * batch_size)]
    if profiles[0] is None or profiles[1] is None:
        raise UnsupportedError(
            f"the memory of training must follow from shapes, but not that of this {layout.architecture}; "
            "objectives: [loss, peak_memory_bytes] measures it"
        )
    has = device_memory(profiles[0].device) if memory_bytes is None else memory_bytes
    return _fit(space, layout, (profiles[0], profiles[1]), has)


def fit_of(config: StudyConfig, layout: ModelLayout, memory: MemoryProfile) -> Fit:
    """The same of a study on this machine, without batch sizes, within its limits."""
    space = build_space(config, layout)
    limits = Limits.of(config.search_space, layout, memory)
    return _fit(space, layout, (memory, None), device_memory(memory.device), limits)


def check_fits(found: Fit) -> None:
    """Raise ``StudyFileError`` where there are plans and none fits."""
    if found.rows and not found.fitting:
        raise StudyFileError("; ".join(found.sentences))


def _fit(
    space: SearchSpace,
    layout: ModelLayout,
    profiles: tuple[MemoryProfile, MemoryProfile | None],
    has: int,
    limits: Limits | None = None,
) -> Fit:
    first, second = profiles
    rows = []
    for baseline in space.baselines():
        now = training_memory(first, layout, baseline.plan)
        if now is None or not baseline.plan.ranks or (limits and not limits.fits(baseline.plan)):
            continue
        twice = training_memory(second, layout, baseline.plan) if second else None
        largest = 0
        if twice is not None:
            each = max(1.0, (twice.total_bytes - now.total_bytes) / first.batch_size)
            largest = max(0, int(first.batch_size + (has - now.total_bytes) / each))
        served = first.of(layout, baseline.plan)["serving_memory"]
        label = baseline.origin.name.removeprefix("uniform ")
        rows.append(FitRow(label, now.total_bytes, served, has - now.total_bytes, largest))
    rows.sort(key=lambda row: row.training_memory)
    return Fit(first.device, has, first.batch_size, tuple(rows))
