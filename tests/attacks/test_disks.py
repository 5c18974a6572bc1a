"""Disks that are full now and then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attacks.claims import Faults, faults
from fixtures.disks import fill

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Make = Callable[..., Any]


def test_full_disks(small_disk: Path, make: Make, fleet: Make, sized: Callable[[int, int], int]) -> None:
    """The disk of a SQLite file is full, and has room again, so many times, with a kill each time."""
    chance = random.Random(11)
    wanted, filled, waited, num_studies = sized(5, 30), 0, 0, 0
    while filled < wanted:
        num_studies += 1
        url = f"sqlite:///{small_disk}/studies{num_studies}.db"
        study = make(url, 150)
        workers = fleet(url)
        workers.start(3)
        while filled < wanted:
            time.sleep(chance.uniform(0.1, 0.4))
            workers.sweep()
            if len(workers.living) < 3:
                break
            fill(small_disk / "ballast")
            time.sleep(chance.uniform(0.2, 0.8))
            workers.kill(chance.choice(workers.living))
            (small_disk / "ballast").unlink()
            workers.start()
            filled += 1
        workers.join()
        assert set(workers.statuses()) == {0}, [workers.log(process) for process in workers.left]
        assert faults(study) == Faults()
        waited += sum("full" in path.read_text() for path in workers.folder.glob("*.log"))
    assert waited
    print(f"the disk was full {filled} times, {waited} workers waited for room")
