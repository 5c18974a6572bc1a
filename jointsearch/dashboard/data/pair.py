"""Two measured plans side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jointsearch.dashboard.data.plan import Cell, cells_of
from jointsearch.measurement import Example
from jointsearch.study.analysis.front_table import PlanPoint, front_table
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class ModuleDifference:
    """A module that two plans treat differently."""

    module: str
    first: Cell
    second: Cell


@dataclass(frozen=True)
class ExamplePair:
    """A validation example with what two models make of it."""

    input: str
    reference: str
    first: str
    second: str


@dataclass(frozen=True)
class PairTable:
    """Two plans side by side."""

    quality: str
    first: PlanPoint
    second: PlanPoint
    differences: tuple[ModuleDifference, ...]
    num_modules: int
    examples: tuple[ExamplePair, ...]
    """Those that both trials have stored, matched by input and reference."""


def pair_table(study: StoredStudy, records: StudyRecords, first: int, second: int) -> PairTable:
    """Raises ``StudyError`` where one of the trials has measured no plan first."""
    table = front_table(study, records)
    pair = [table.point(number) for number in (first, second)]
    cells = [cells_of(study.layout, point.plan) for point in pair]
    outputs = [_outputs(point.measured.measurement.examples) for point in pair]
    return PairTable(
        quality=table.quality,
        first=pair[0],
        second=pair[1],
        differences=tuple(
            ModuleDifference(one.module, one, two)
            for one, two in zip(*cells, strict=True)
            if (one.format, one.rank) != (two.format, two.rank)
        ),
        num_modules=len(cells[0]),
        examples=tuple(
            ExamplePair(*key, outputs[0][key], outputs[1][key]) for key in outputs[0] if key in outputs[1]
        ),
    )


def _outputs(examples: Sequence[Example]) -> dict[tuple[str, str], str]:
    return {(example.input, example.reference): example.output for example in examples}
