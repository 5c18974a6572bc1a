"""Studies that are deleted, and made again under the same name, while workers are in their trials."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from attacks.claims import Faults, faults
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import delete_study

pytestmark = [pytest.mark.slow, pytest.mark.alone]

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


@pytest.fixture(params=["sqlite", "postgresql", "proxy"])
def urls(request: pytest.FixtureRequest, tmp_path: Path, launch: Make, wait_for: Make) -> tuple[str, str]:
    """Of a database, and where workers find it: there, or behind a proxy."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        return url, url
    url = f"sqlite:///{tmp_path}/studies.db"
    if request.param == "sqlite":
        return url, url
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    launch("proxy", url, str(port), log="proxy")
    wait_for(lambda: "serving at" in (tmp_path / "proxy").read_text())
    return url, f"grpc://127.0.0.1:{port}"


def test_deletions(urls: tuple[str, str], make: Make, fleet: Make, sized: Callable[[int, int], int]) -> None:
    """So many times, under four workers; those that it ends say so in a line, and others come."""
    chance = random.Random(13)
    wanted = sized(8, 60)
    url, for_workers = urls
    study = make(url, 60)
    storage = open_storage(url)
    workers = fleet(for_workers, longest_seconds=0.1)
    workers.start(4)
    for _ in range(wanted):
        time.sleep(chance.uniform(0.1, 0.6))
        delete_study(storage, "small", force=True)
        study = make(url, 60)
        workers.sweep()
        workers.start(4 - len(workers.living))
    workers.join(600)
    statuses = Counter(workers.statuses())
    said = [workers.log(process).splitlines()[-1] for process in workers.left if process.exitcode == 2]
    odd = [workers.log(process) for process in workers.left if process.exitcode not in (0, 2)]
    assert not odd, "\n".join(odd)
    assert all(line.startswith("Error: ") for line in said), said
    workers.start(2)  # all others may have left with the last study but one
    workers.join(600)
    found = faults(study)
    assert found == (Faults() if url == for_workers else replace(found, lost=0, stuck=0, failed=0, forged=0))
    assert orphans(url) == 0
    storage.engine.dispose()
    print(f"{wanted} deletions, {statuses[2]} workers told that their study is gone")
