"""Connections to PostgreSQL that are cut, also where only the answer to a commit is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from attacks.claims import Faults, faults
from attacks.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Make = Callable[..., Any]


def test_drops(
    postgres_url: str, make: Make, fleet: Make, sized: Callable[[int, int], int], wait_for: Make
) -> None:
    """Studies of 100 trials with three workers each, until so many connections have been cut."""
    wanted, num_studies = sized(40, 300), 0
    started = time.monotonic()
    with Relay(postgres_url, seed=5) as relay:
        while relay.num_cuts < wanted:
            num_studies += 1
            study = make(postgres_url, 100, name=f"small{num_studies}")
            workers = fleet(relay.url, study.name)
            workers.start(3)
            wait_for(lambda workers=workers: len(workers.who_ran()) == 3)
            relay.cutting = True
            while relay.num_cuts < wanted and workers.living:
                time.sleep(0.05)
                workers.sweep()
            relay.cutting = False
            workers.join()
            assert workers.statuses() == [0] * 3, [workers.log(process) for process in workers.left]
            assert faults(study) == Faults()
    assert relay.cuts["after a commit"] > 0
    print(f"{dict(relay.cuts)} cuts, {num_studies} studies, {time.monotonic() - started:.0f} s")
