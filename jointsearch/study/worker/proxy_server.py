"""The storage proxy's own process: serves the database, and keeps the heartbeats that the proxy lacks.

Workers behind the proxy count a trial's beats in an attribute of the trial. A change of the count becomes
a heartbeat in the database, where everyone sees it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import RDBStorage

from jointsearch.errors import StudyGone, first_line
from jointsearch.study.storage import heartbeats
from jointsearch.study.storage.database import Database
from jointsearch.study.storage.heartbeats import relay_heartbeats
from jointsearch.study.storage.identity import identified
from jointsearch.study.storage.outages import is_outage, repeat
from jointsearch.study.storage.proxy import check_installed
from jointsearch.study.study import study_names
from jointsearch.study.worker.stale import StaleTrials

_log = logging.getLogger(__name__)


class KeptStudy:
    """A study whose workers are behind the proxy, of whatever version: only its trials are looked at."""

    def __init__(self, storage: RDBStorage, name: str) -> None:
        self._study = identified(optuna.load_study(study_name=name, storage=storage))
        self._counts: dict[int, int] = {}
        self._stale = StaleTrials(self._study)

    def keep(self) -> None:
        relay_heartbeats(self._study, self._counts)
        self._stale.recover()


def serve(storage: Database, host: str, port: int, tell: Callable[[], None]) -> None:
    """Serve ``storage`` to workers until the process is ended, after ``tell``."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would say in its own words what we say
    check_installed()
    from jointsearch.study.storage.proxy_service import serve_proxy

    with _keeping_heartbeats(storage):
        serve_proxy(storage, host, port, tell)


@contextmanager
def _keeping_heartbeats(storage: RDBStorage) -> Iterator[None]:
    """Make heartbeats of the workers' counts, and put stale trials back into the queue."""
    kept: dict[str, KeptStudy] = {}

    def look() -> None:
        for name in study_names(storage):
            try:
                if name not in kept:
                    kept[name] = KeptStudy(storage, name)
                kept[name].keep()
            except (StudyGone, KeyError):
                kept.pop(name, None)  # what has its name now is looked at next time
            except Exception as error:  # of one study: the others go on
                if is_outage(error):
                    raise
                _log.warning("study '%s': %s: %s", name, type(error).__name__, first_line(error))

    with repeat(look, heartbeats.HEARTBEAT_SECONDS):
        yield
