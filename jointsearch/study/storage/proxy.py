"""Optuna's gRPC storage proxy: many workers, and one process that talks to the database.

It has no heartbeats, which ``heartbeats`` and ``worker.proxy_server`` make up for, and no locks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial

from jointsearch.errors import StorageError, UnsupportedError
from jointsearch.search.optuna_compat import experimental_optuna

REACH_SECONDS = 10.0


def open_proxied(url: str) -> BaseStorage:
    """The storage behind the proxy at ``grpc://host:port``; raises ``StorageError`` if none answers."""
    host, port = _address(url)
    check_installed()
    import grpc

    with experimental_optuna():
        storage = optuna.storages.GrpcStorageProxy(host=host, port=port)
    try:
        storage.wait_server_ready(timeout=REACH_SECONDS)
    except (ConnectionError, grpc.RpcError):
        storage.close()
        raise StorageError(
            f"a storage proxy must answer at {url}; start one with `jointsearch storage proxy --port {port}`"
        ) from None
    return storage


class StudyProxy(optuna.storages.GrpcStorageProxy):
    """A connection to the proxy for one study, which looks whether the study is still the same.

    The proxy knows no transactions: it is asked just before.
    """

    def __init__(
        self, storage: BaseStorage, study_id: int, check: Callable[[Mapping[str, Any]], None]
    ) -> None:
        """``check`` is given the study's user attributes; its own connection has a cache of its own."""
        assert isinstance(storage, optuna.storages.GrpcStorageProxy)
        with experimental_optuna():
            super().__init__(host=storage._host, port=storage._port)
        self._study = study_id
        self._check = check

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        try:
            found = super().get_study_user_attrs(study_id)
        except KeyError:
            found = {}
        self._check(found)
        return found

    def _look(self) -> None:
        self.get_study_user_attrs(self._study)

    def delete_study(self, study_id: int) -> None:
        self._look()
        super().delete_study(study_id)

    def get_study_id_from_name(self, study_name: str) -> int:
        self._look()
        return super().get_study_id_from_name(study_name)

    def get_all_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        self._look()
        return super().get_all_trials(*arguments, **options)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        self._look()
        return super().get_trial(trial_id)

    def create_new_trial(self, *arguments: Any, **options: Any) -> int:
        self._look()
        return super().create_new_trial(*arguments, **options)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._look()
        super().set_study_user_attr(study_id, key, value)

    def set_trial_param(self, *arguments: Any, **options: Any) -> None:
        self._look()
        super().set_trial_param(*arguments, **options)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._look()
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._look()
        super().set_trial_system_attr(trial_id, key, value)

    def set_trial_state_values(self, *arguments: Any, **options: Any) -> bool:
        self._look()
        return super().set_trial_state_values(*arguments, **options)


def serve_proxy(storage: RDBStorage, host: str, port: int, tell: Callable[[], None]) -> None:
    """Serve ``storage`` to workers until the process is ended, after ``tell``; raises ``StorageError``."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would say in its own words what we say
    check_installed()
    from optuna.storages._grpc.server import make_server

    try:
        server = make_server(storage, host, port)
    except RuntimeError:
        raise StorageError(
            f"--host and --port must be those of a free address of this machine, but got {host}:{port}"
        ) from None
    server.start()
    tell()
    server.wait_for_termination()


def _address(url: str) -> tuple[str, int]:
    match = re.fullmatch(r"grpc://([^/:@]+|\[[0-9a-fA-F:]+\]):(\d{1,5})/?", url)
    if not match:
        raise StorageError("the storage of a proxy must be grpc://host:port, without more")
    return match[1], int(match[2])


def check_installed() -> None:
    """Raise ``UnsupportedError`` where the extra is missing."""
    try:
        import grpc  # noqa: F401
    except ImportError:
        raise UnsupportedError(
            "a storage proxy needs grpcio, which is not installed; pip install 'jointsearch[grpc]'"
        ) from None
