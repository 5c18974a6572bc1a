"""What our proxy does beside Optuna's: it knows which study a client means, and writes a trial as one.

A client says in the metadata of a call which study it means. Every transaction of the call begins with a look
whether that study is still the same, so that nothing is stored in one that has been made again meanwhile.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from optuna.distributions import json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._grpc.auto_generated.api_pb2_grpc import add_StorageServiceServicer_to_server
from optuna.storages._grpc.servicer import OptunaStorageProxyService
from sqlalchemy import Connection

from jointsearch.errors import StorageError, StudyGone
from jointsearch.study.storage.database import Database
from jointsearch.study.storage.identity import check_of
from jointsearch.study.storage.proxy import CHECKED, MEANT, SERVICE, WRITE
from jointsearch.study.storage.writing import write_at_once

_call = threading.local()


def serve_proxy(storage: Database, host: str, port: int, tell: Callable[[], None]) -> None:
    """Serve ``storage`` to workers until the process is ended, after ``tell``; raises ``StorageError``."""
    checked = storage.of_study(_check)
    try:
        server = grpc.server(ThreadPoolExecutor(max_workers=10), interceptors=(_Meant(),))
        service = OptunaStorageProxyService(checked)
        add_StorageServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise StorageError(
            f"--host and --port must be those of a free address of this machine, but got {host}:{port}"
        ) from None
    server.add_generic_rpc_handlers((_write_handler(checked),))
    server.start()
    tell()
    server.wait_for_termination()


def _check(connection: Connection) -> None:
    """Look for the study that the call of this thread means."""
    meant: dict[str, Any] | None = getattr(_call, "meant", None)
    if meant is not None:
        check_of(meant["id"], meant["name"], meant["identity"])(connection)


class _Meant(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Notes which study a call means while it is answered, and says that this is looked at."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        meant = dict(details.invocation_metadata).get(MEANT)
        if meant is None or handler is None:
            return handler

        def answer(request: Any, context: Any) -> Any:
            context.send_initial_metadata(((CHECKED, "1"),))
            _call.meant = json.loads(meant)
            try:
                return handler.unary_unary(request, context)
            except StudyGone as error:
                context.abort(grpc.StatusCode.ABORTED, str(error))
            finally:
                _call.meant = None

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


def _write_handler(storage: Database) -> Any:
    def write(request: bytes, context: Any) -> bytes:
        wanted = json.loads(request)
        params = {
            name: (value, json_to_distribution(distribution))
            for name, (value, distribution) in wanted["params"].items()
        }
        try:
            write_at_once(storage, wanted["trial"], wanted["attributes"], params)
        except UpdateFinishedTrialError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except KeyError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return b""

    return grpc.method_handlers_generic_handler(SERVICE, {WRITE: grpc.unary_unary_rpc_method_handler(write)})
