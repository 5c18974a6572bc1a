"""The storage proxy's own process: serves the database, and keeps the heartbeats that the proxy lacks.

Workers behind the proxy count a trial's beats in an attribute of the trial. A change of the count becomes
a heartbeat in the database, where everyone sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.liveness import HEARTBEAT_SECONDS
from jointsearch.study.storage.outages import outlast
from jointsearch.study.storage.proxy import BEAT, check_installed
from jointsearch.study.study import open_study, study_names
from jointsearch.study.worker.liveness import LostTrials


def serve(storage: RDBStorage, host: str, port: int) -> None:
    """Serve ``storage`` to workers until the process is ended."""
    check_installed()
    with experimental_optuna(), _keeping_heartbeats(storage):
        optuna.storages.run_grpc_proxy_server(storage, host=host, port=port)


@contextmanager
def _keeping_heartbeats(storage: RDBStorage) -> Iterator[None]:
    """Make heartbeats of the workers' counts, and put lost trials back into the queue."""
    ended = threading.Event()
    beats: dict[int, int] = {}
    watched: dict[str, LostTrials] = {}

    def look() -> None:
        for name in study_names(storage):
            study = open_study(storage, name).optuna_study
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                beat = trial.user_attrs.get(BEAT)
                if beat is not None and beats.get(trial._trial_id) != beat:
                    beats[trial._trial_id] = beat
                    storage.record_heartbeat(trial._trial_id)
            watched.setdefault(name, LostTrials(study)).recover()

    def watch() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            outlast(look, ended.is_set)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
