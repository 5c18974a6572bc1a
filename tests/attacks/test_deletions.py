"""Studies that are deleted, and made again under the same name, while workers are in their trials."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from attacks.claims import Faults, faults
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import delete_study

pytestmark = pytest.mark.slow

Make = Callable[..., Any]

ORPHANS = (
    "SELECT count(*) FROM trials WHERE study_id NOT IN (SELECT study_id FROM studies)",
    *(
        f"SELECT count(*) FROM {table} WHERE trial_id NOT IN (SELECT trial_id FROM trials)"
        for table in ("trial_user_attributes", "trial_params", "trial_values", "trial_heartbeats")
    ),
)


def orphans(url: str) -> int:
    """Rows of what is no longer there."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = sum(int(connection.execute(text(query)).scalar_one()) for query in ORPHANS)
    engine.dispose()
    return found


def test_deletions(any_url: str, make: Make, fleet: Make, sized: Callable[[int, int], int]) -> None:
    """So many times, under four workers; those that it ends say so in a line, and others come."""
    chance = random.Random(13)
    wanted = sized(8, 60)
    study = make(any_url, 100)
    storage = open_storage(any_url)
    workers = fleet(any_url, longest_seconds=0.1)
    workers.start(4)
    for _ in range(wanted):
        time.sleep(chance.uniform(0.1, 0.6))
        delete_study(storage, "small", force=True)
        study = make(any_url, 100)
        workers.sweep()
        workers.start(4 - len(workers.living))
    workers.join()
    statuses = Counter(workers.statuses())
    said = [workers.log(process).splitlines()[-1] for process in workers.left if process.exitcode == 2]
    assert set(statuses) <= {0, 2}, [workers.log(process) for process in workers.left]
    assert all("was deleted while" in line or "there is no study" in line for line in said), said
    workers.start(2)  # all others may have left with the last study but one
    workers.join()
    assert faults(study) == Faults()
    assert orphans(any_url) == 0
    storage.engine.dispose()
    print(f"{wanted} deletions, {statuses[2]} workers told that their study is gone")
