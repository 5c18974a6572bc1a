"""Both applications at one address, served by waitress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import optuna_dashboard
import waitress
from optuna.storages import BaseStorage

from jointsearch.dashboard.app import create_app
from jointsearch.dashboard.router import LOOPBACK, Router, csrf_cookie
from jointsearch.errors import UnsupportedError, first_line

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from jointsearch.dashboard.live import Carriers


CONNECTIONS = 500
"""At once, so that many that ask for nothing keep nobody out; a process may usually have 1024 files."""
UNUSED_SECONDS = 20
"""How long a connection that asks for nothing is kept; browsers open another where they need one."""


def create_dashboard(
    storage: BaseStorage, token: str = "", port: int = 8080, carriers: Carriers | None = None
) -> WSGIApplication:
    """Ours at ``/``, optuna-dashboard beside it; ``carriers``: as ``create_app`` has them.

    ``token``: what every request must show; empty for none. ``port``: which is listened to; cookies
    bear it, since a browser sends those of one port to all others of the host.
    """
    ours = create_app(storage, csrf_cookie(port), carriers).server
    return Router(ours, optuna_dashboard.wsgi(storage), token, port)


def check_host(host: str, token: str) -> None:
    """Raise ``UnsupportedError`` where there is none, or other machines could come without a token."""
    if not host:
        raise UnsupportedError("--host must be an address of this machine, but it is empty")
    if host not in LOOPBACK and not token:
        raise UnsupportedError(
            f"--no-token needs a --host of {', '.join(LOOPBACK)}, because others could come, but got {host!r}"
        )


def serve(
    storage: BaseStorage,
    host: str,
    port: int,
    token: str = "",
    tell: Callable[[], None] = lambda: None,
    carriers: Carriers | None = None,
) -> None:
    """Serve until interrupted, after ``tell``; raises ``UnsupportedError`` where the address is not free."""
    check_host(host, token)
    try:
        server = waitress.create_server(
            create_dashboard(storage, token, port, carriers),
            host=host,
            port=port,
            threads=8,
            connection_limit=CONNECTIONS,
            channel_timeout=UNUSED_SECONDS,
            cleanup_interval=5,
            asyncore_use_poll=True,  # select() has room for 1024 files
            ident="jointsearch",
        )
    except (OSError, ValueError) as error:  # the second where the host is no name of an address
        raise UnsupportedError(
            f"--host and --port must be free, but {host}:{port}: "
            f"{getattr(error, 'strerror', None) or first_line(error)}"
        ) from None
    tell()
    server.run()
