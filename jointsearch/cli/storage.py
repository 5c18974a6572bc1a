"""``jointsearch storage proxy``: the proxy between many workers and one database."""

from __future__ import annotations

import click

from jointsearch.cli.options import storage_option
from jointsearch.cli.telling import tell
from jointsearch.errors import StorageError
from jointsearch.study.storage.database import Database
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.worker.proxy_server import serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=13000, show_default=True)
@storage_option
def proxy(host: str, port: int, storage_url: str) -> None:
    """Serve the storage over gRPC, at grpc://HOST:PORT.

    There is no password and no encryption: listen only where everyone may read and write the studies.

    \b
    Example:
      jointsearch storage proxy --storage postgresql://host/studies --host 10.0.0.5
      jointsearch worker quickstart --storage grpc://10.0.0.5:13000
    """
    opened = open_storage(storage_url, create=True)
    if not isinstance(opened, Database):
        raise StorageError(f"a proxy must serve a database, but got another proxy ({storage_url})")
    serve(opened, host, port, lambda: tell(f"serving at grpc://{host}:{port}; Ctrl-C ends it"))
