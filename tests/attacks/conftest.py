"""Studies that attacks are made on, and how many attacks there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attacks.workers import Fleet
from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study

Make = Callable[..., StoredStudy]
MakeFleet = Callable[..., Fleet]
Sized = Callable[[int, int], int]


@pytest.fixture(scope="session")
def sized() -> Sized:
    """Of two numbers the first, or the second with JOINTSEARCH_ATTACKS=full."""
    full = os.environ.get("JOINTSEARCH_ATTACKS") == "full"
    return lambda usual, at_full_size: at_full_size if full else usual


@pytest.fixture
def make(configure: Callable[..., StudyConfig], layout: ModelLayout) -> Iterator[Make]:
    """A study of so many trials in the database of a URL."""
    opened = []

    def make(url: str, trials: int, name: str = "small") -> StoredStudy:
        storage = open_storage(url, create=True)
        opened.append(storage)
        return create_study(storage, configure(name=name, search={"trials": trials}), layout)

    yield make
    for storage in opened:
        storage.engine.dispose()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[MakeFleet]:
    """Workers of a study; none outlives the test."""
    fleets = []

    def make(url: str, name: str = "small", **options: Any) -> Fleet:
        folder = tmp_path / f"fleet{len(fleets)}"
        folder.mkdir()
        fleets.append(Fleet(url, name, folder, **options))
        return fleets[-1]

    yield make
    for made in fleets:
        made.close()
