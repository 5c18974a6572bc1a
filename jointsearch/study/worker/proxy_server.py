"""The storage proxy's own process: serves the database, and keeps the heartbeats that the proxy lacks.

Workers behind the proxy count a trial's beats in an attribute of the trial. A change of the count becomes
a heartbeat in the database, where everyone sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.storages import RDBStorage

from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.heartbeats import relay_heartbeats
from jointsearch.study.storage.outages import repeat
from jointsearch.study.storage.proxy import serve_proxy
from jointsearch.study.study import open_study, study_names
from jointsearch.study.worker.stale import StaleTrials


def serve(storage: RDBStorage, host: str, port: int) -> None:
    """Serve ``storage`` to workers until the process is ended."""
    with _keeping_heartbeats(storage):
        serve_proxy(storage, host, port)


@contextmanager
def _keeping_heartbeats(storage: RDBStorage) -> Iterator[None]:
    """Make heartbeats of the workers' counts, and put stale trials back into the queue."""
    counts: dict[int, int] = {}
    watched: dict[str, StaleTrials] = {}

    def look() -> None:
        for name in study_names(storage):
            study = open_study(storage, name).optuna_study
            relay_heartbeats(study, counts)
            watched.setdefault(name, StaleTrials(study)).recover()

    with repeat(look, heartbeats.HEARTBEAT_SECONDS):
        yield
