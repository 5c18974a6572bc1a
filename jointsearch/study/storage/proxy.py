"""Optuna's gRPC storage proxy: many workers, and one process that talks to the database.

It has no heartbeats, which ``heartbeats`` and ``worker.proxy_server`` make up for, and no locks.
"""

from __future__ import annotations

import re

import optuna
from optuna.storages import BaseStorage, RDBStorage

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


def serve_proxy(storage: RDBStorage, host: str, port: int) -> None:
    """Serve ``storage`` to workers until the process is ended."""
    check_installed()
    with experimental_optuna():
        optuna.storages.run_grpc_proxy_server(storage, host=host, port=port)


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
