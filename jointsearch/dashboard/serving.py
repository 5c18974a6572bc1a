"""Both applications at one address, served by waitress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import optuna_dashboard
import waitress
from optuna.storages import BaseStorage

from jointsearch.dashboard.app import create_app
from jointsearch.dashboard.router import LOOPBACK, Router
from jointsearch.errors import UnsupportedError, first_line

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def create_dashboard(storage: BaseStorage, token: str = "") -> WSGIApplication:
    """Ours at ``/``, optuna-dashboard beside it; ``token``: what every request must show."""
    return Router(create_app(storage).server, optuna_dashboard.wsgi(storage), token)


def check_host(host: str, token: str) -> None:
    """Raise ``UnsupportedError`` where other machines could come without a token."""
    if host not in LOOPBACK and not token:
        raise UnsupportedError(
            f"--host other than {', '.join(LOOPBACK)} needs --auth-token or JOINTSEARCH_DASHBOARD_TOKEN, "
            f"because others could come, but got {host} and no token"
        )


def serve(
    storage: BaseStorage,
    host: str,
    port: int,
    token: str = "",
    tell: Callable[[], None] = lambda: None,
) -> None:
    """Serve until interrupted, after ``tell``; raises ``UnsupportedError`` where the address is not free."""
    check_host(host, token)
    try:
        server = waitress.create_server(
            create_dashboard(storage, token), host=host, port=port, threads=8, ident="jointsearch"
        )
    except (OSError, ValueError) as error:  # the second where the host is no name of an address
        raise UnsupportedError(
            f"--host and --port must be free, but {host}:{port}: "
            f"{getattr(error, 'strerror', None) or first_line(error)}"
        ) from None
    tell()
    server.run()
