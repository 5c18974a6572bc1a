"""Optuna's gRPC storage proxy: many workers, and one process that talks to the database.

It has no heartbeats, which ``heartbeats`` and ``worker.proxy_server`` make up for, and no locks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from jointsearch.errors import StorageError, StudyGone, UnsupportedError
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.internals import study_id

REACH_SECONDS = 10.0

SERVICE, WRITE = "jointsearch.Storage", "Write"
"""What our proxy has beside Optuna's service."""
MEANT = "jointsearch-study-bin"
"""Metadata of a call: the study that it means."""
CHECKED = "jointsearch-checked"
"""Metadata of an answer: the proxy has looked for that study in the transaction."""


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

    Our own proxy does so in the transaction of each call, and says so. Another one is asked just before.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study: optuna.Study,
        identity: str,
        check: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """``check`` is given the study's user attributes; its own connection has a cache of its own."""
        assert isinstance(storage, optuna.storages.GrpcStorageProxy)
        self._study = study_id(study)
        self._meant = json.dumps({"id": self._study, "name": study.study_name, "identity": identity})
        self._check = check
        self._is_checked = False
        with experimental_optuna():
            super().__init__(host=storage._host, port=storage._port)

    def _setup(self) -> None:
        super()._setup()
        import grpc
        from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
        from optuna.storages._grpc.client import GrpcClientCache

        proxy = self

        class Meaning(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
            """Says with each call which study is meant."""

            def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
                metadata = [*(details.metadata or ()), (MEANT, proxy._meant.encode())]
                answer = continuation(details._replace(metadata=metadata), request)
                if answer.code() is grpc.StatusCode.ABORTED:
                    raise StudyGone(answer.details())
                proxy._is_checked = any(key == CHECKED for key, _ in answer.initial_metadata() or ())
                return answer

        self._meaning = grpc.intercept_channel(self._channel, Meaning())
        self._stub = StorageServiceStub(self._meaning)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)

    def write(self, trial_id: int, attributes: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
        """Store user attributes and parameters in one transaction; False where the proxy cannot.

        ``params``: internal values and distributions in JSON, by name.
        """
        import grpc

        if not self._is_checked:
            return False
        wanted = {"trial": trial_id, "attributes": dict(attributes), "params": dict(params)}
        try:
            self._meaning.unary_unary(f"/{SERVICE}/{WRITE}")(json.dumps(wanted).encode())
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise UpdateFinishedTrialError(error.details()) from error
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise KeyError(error.details()) from error
            raise
        return True

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        try:
            found = super().get_study_user_attrs(study_id)
        except KeyError:
            found = {}
        self._check(found)
        return found

    def _look(self) -> None:
        if not self._is_checked:
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
