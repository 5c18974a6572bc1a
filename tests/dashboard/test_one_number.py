"""A number of a study is the same wherever it is shown, also after a comparison within a budget.

The study was made by version 0.1.0, whose comparison named what the search had measured; it proposed plans
of strategies, larger than all that the search had, under the search's seed and another one.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jointsearch.cli import cli
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.report import sections
from jointsearch.study.analysis.front_table import front_rows, front_table
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import open_study

STUDIES = Path(__file__).parents[1] / "landed" / "studies.sql"
NUM_BEFORE = 37
"""Trials before the comparison."""

Pair = tuple[float, float]


@pytest.fixture
def url(tmp_path: Path) -> str:
    database = sqlite3.connect(tmp_path / "landed.db")
    database.executescript(STUDIES.read_text(encoding="utf-8"))
    database.close()
    return f"sqlite:///{tmp_path}/landed.db"


@pytest.fixture
def compared(url: str) -> Iterator[StoredStudy]:
    storage = open_storage(url)
    yield open_study(storage, "landed")
    storage.engine.dispose()


def covered(points: list[Pair], corner: Pair) -> float:
    """The area that they dominate below the corner, rectangle by rectangle of the grid through them."""
    columns = sorted({x for x, _ in points if x < corner[0]} | {corner[0]})
    rows = sorted({y for _, y in points if y < corner[1]} | {corner[1]})
    return sum(
        (right - left) * (above - below)
        for left, right in itertools.pairwise(columns)
        for below, above in itertools.pairwise(rows)
        if any(x <= left and y <= below for x, y in points)
    )


def by_hand(records: StudyRecords) -> float:
    """Of what the search itself has measured, the trials that nobody asked for, in that of uniform plans."""
    searched = [point for point in records.measured if not point.trials[0].requested]
    points = [(point.values["loss"], point.values["model_bytes"]) for point in searched]
    trained = [p.origin.name.startswith("uniform ") and bool(p.plan.ranks) for p in searched]
    uniform = [pair for pair, keep in zip(points, trained, strict=True) if keep]
    axes = list(zip(*uniform, strict=True))
    corner = tuple(max(axis) + 0.1 * (max(axis) - min(axis)) for axis in axes)
    return covered(points, corner) / covered(uniform, corner)


def test_the_hypervolume(compared: StoredStudy, url: str) -> None:
    records = compared.records()
    assert len(records.trials) > NUM_BEFORE
    expected = by_hand(records)
    done = CliRunner().invoke(cli, ["study", "status", "landed", "--format", "json", "--storage", url])
    assert json.loads(done.stdout)["hypervolume"] == pytest.approx(expected, rel=1e-9)
    assert progress_table(compared, records).hypervolume[-1][1] == pytest.approx(expected, rel=1e-9)
    (progress,) = [section for section in sections(compared) if section.heading == "Progress"]
    (curve,) = progress.figures["hypervolume"].data
    assert curve.y[-1] == pytest.approx(expected, rel=1e-9)
    assert not set(curve.x) & set(range(NUM_BEFORE, len(records.trials)))


def test_the_front_and_its_verdict(compared: StoredStudy, url: str) -> None:
    records = compared.records()
    before = StudyRecords(records.objectives, records.trials[:NUM_BEFORE])
    front = [point.number for point in records.front]
    assert [number for number in front if number < NUM_BEFORE] == [point.number for point in before.front]
    table, verdict = front_table(compared, records), judge(compared, records)
    assert [point.trial for point in table.front] == front
    done = CliRunner().invoke(cli, ["front", "landed", "--format", "json", "--storage", url])
    rows = json.loads(done.stdout)
    assert [row["trial"] for row in rows if row["on_front"]] == front
    assert front_rows(table, verdict) == rows
    shown = {trace.name: trace for trace in sections(compared)[0].figures["front"].data}
    assert list(shown["front"].customdata) == front

    at_first = judge(compared, before)
    assert verdict.paid == at_first.paid
    # what the comparison has measured may be a rival, and no point
    numbers = [entry.trial for entry in at_first.comparisons]
    assert [entry.trial for entry in verdict.comparisons] == numbers
