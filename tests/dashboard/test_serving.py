"""The served dashboard and connections that only take up room."""

from __future__ import annotations

import gzip
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import waitress
from optuna.storages import RDBStorage

from jointsearch.dashboard import serving
from jointsearch.dashboard.router import HEALTH
from jointsearch.study.stored import StoredStudy

HALF_OPEN = 200


@pytest.fixture
def port(small: StoredStudy, storage: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a dashboard that is really served, by ``serve``."""
    servers = []
    listening = threading.Event()
    create = waitress.create_server

    def create_server(*args: object, **options: object) -> object:
        servers.append(create(*args, **options))
        return servers[-1]

    monkeypatch.setattr("waitress.create_server", create_server)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    thread = threading.Thread(
        target=serving.serve, args=(storage, "127.0.0.1", number, "", listening.set), daemon=True
    )
    thread.start()
    assert listening.wait(240)
    yield number
    servers[0].close()
    servers[0].task_dispatcher.shutdown()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"POST / HTTP/1.1\r\n"])
def test_connections_that_ask_for_nothing_keep_nobody_out(port: int, begun: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(HALF_OPEN):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            held.sendall(begun)
        # less than any of them is kept for: an answer comes beside them, not after them
        health = f"http://127.0.0.1:{port}{HEALTH}"
        with urllib.request.urlopen(health, timeout=serving.UNUSED_SECONDS) as answer:
            assert answer.read() == b"ok"


def test_answers_are_compressed_for_who_asks(port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    address = f"http://127.0.0.1:{port}/_dash-dependencies"
    plain = opener.open(address, timeout=240).read()
    request = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    with opener.open(request, timeout=240) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = answer.read()
    assert len(packed) < len(plain) / 3
    assert gzip.decompress(packed) == plain
