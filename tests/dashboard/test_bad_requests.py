"""Requests that no page of ours makes: none is an error of the server, and none changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from optuna.storages import RDBStorage
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from attacks.bad.case import DIGITS, ESCAPES
from fixtures.clicks import selecting
from jointsearch.dashboard.router import csrf_cookie
from jointsearch.dashboard.serving import create_dashboard
from jointsearch.study.stored import StoredStudy

pytestmark = pytest.mark.slow

UPDATE = "/_dash-update-component"

PATHS = (
    "//",
    "/%00",
    "/%ff%fe",
    "/..%2f..%2fetc%2fpasswd",
    "/assets/../../../../etc/passwd",
    "/assets/%2e%2e/%2e%2e/etc/passwd",
    "/assets/style.css%00.png",
    "/study/",
    "/study/nobody",
    "/study/foreign",
    "/study/%1b%5b2J",
    "/study/small/plan/x",
    f"/study/small/plan/{DIGITS}",
    "/study/small/plan/-1",
    "/study/small/pair/0/99999",
    "/study/" + "x" * 10_000,
    "/api/studies/99999",
    "/api/studies/-1",
    "/api/studies/x",
    f"/api/studies/{DIGITS}",
    "/api/studies/1/x",
    "/dashboard/studies/99999",
    "/static/../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/no-such.js",
    "/csv/99999",
    "/csv/x",
    "/artifacts/1/..%2f..%2fetc%2fpasswd",
    "/artifacts/x/y/z",
    "/_dash-component-suites/dash/../../../../etc/passwd",
    "/_dash-component-suites/os/path.py",
    "/_dash-component-suites/no/such.js",
    "/?token=" + "x" * 10_000,
    "/?token=%ff&token=%00",
    "/" + "a/" * 2000,
)

HEADERS = (
    {"Host": ""},
    {"Host": "[::1"},
    {"Host": "]["},
    {"Host": "a" * 5000},
    {"Host": "127.0.0.1:99999999"},
    {"Host": "127.0.0.1:port"},
    {"Host": "evil.example"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "\x1b[2J"},
    {"Origin": "http://[::1"},
    {"Origin": "null"},
    {"Origin": "javascript:alert(1)"},
    {"Origin": "x" * 10_000},
    {"Cookie": "=;=;;;\xff"},
    {"Cookie": "a" * 10_000},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"Content-Length": "-1"},
    {"Content-Length": DIGITS},
    {"Content-Length": "ten"},
    {"Content-Type": "\x00"},
    {"Accept-Encoding": "\xff" * 1000},
    {"If-None-Match": '"' * 1000},
    {"If-Modified-Since": "31 Feb 99999"},
    {"Range": "bytes=9999999999-0,-1,x"},
    {"Transfer-Encoding": "chunked"},
)

CLICK = selecting("/study/small/plan/x")

BODIES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    DIGITS.encode(),
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"output": NaN}',
    b"{}",
    json.dumps({"output": ESCAPES}).encode(),
    *(
        json.dumps({**CLICK, key: new}).encode()
        for key in CLICK
        for new in (None, 5, [], {}, "..x...y..", [[]])
    ),
    *(
        json.dumps({**CLICK, "state": [CLICK["state"][0], {**CLICK["state"][1], "value": address}]}).encode()
        for address in (
            None,
            5,
            [],
            {},
            "",
            "/",
            "/study/nobody/plan/0",
            f"/study/small/plan/{DIGITS}",
            ESCAPES,
        )
    ),
    *(
        json.dumps({**CLICK, "state": [{**CLICK["state"][0], "value": note}, CLICK["state"][1]]}).encode()
        for note in (None, 5, [], {"a": 1}, "x" * 1_000_000, ESCAPES, "\ud800")
    ),
)


@pytest.fixture
def storage_rows(small: StoredStudy) -> Iterator[StoredStudy]:
    before = (dict(small.optuna_study.user_attrs), small.optuna_study.get_trials())
    yield small
    assert (small.optuna_study.user_attrs, small.optuna_study.get_trials()) == before


@pytest.fixture
def client(storage_rows: StoredStudy, storage: RDBStorage) -> Client:
    return Client(create_dashboard(storage))


def answer(client: Client, **request: Any) -> None:
    response = client.open(EnvironBuilder(**request).get_environ(), buffered=True)
    assert response.status_code < 500, response.data[:500]
    assert b"root:" not in response.data
    assert not set("\r\n\x1b") & set("".join(response.headers.values()))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths(client: Client, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "X" * 100):
        answer(client, path=path, method=method, headers={"Accept-Encoding": "gzip"})


@pytest.mark.timeout(60)
@pytest.mark.parametrize("headers", HEADERS, ids=range(len(HEADERS)))
def test_headers(client: Client, headers: dict[str, str]) -> None:
    for path in ("/", "/study/small", "/api/studies", UPDATE):
        for method in ("GET", "POST"):
            builder = EnvironBuilder(path=path, method=method)
            environ = builder.get_environ()
            for name, value in headers.items():
                key = name.upper().replace("-", "_")
                environ[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = value
            body, status, _ = run_wsgi_app(client.application, environ, buffered=True)
            assert int(status.split()[0]) < 500, b"".join(body)[:500]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies(client: Client, body: bytes) -> None:
    """Whoever has the token and sends what no page makes gets Dash's own answer, and changes nothing."""
    client.get("/", buffered=True)
    cookie = client.get_cookie(csrf_cookie(8080))
    assert cookie is not None
    for kind in ("application/json", "text/plain"):
        headers = {"X-CSRFToken": cookie.value}
        client.post(UPDATE, data=body, content_type=kind, headers=headers, buffered=True)
