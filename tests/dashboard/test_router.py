"""Attacks on the served dashboard, through both real applications."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from optuna.storages import RDBStorage
from werkzeug.test import Client, TestResponse

from fixtures.clicks import selecting
from jointsearch.dashboard.router import OPTUNA_PATHS, csrf_cookie, token_cookie
from jointsearch.dashboard.serving import check_host, create_dashboard
from jointsearch.errors import UnsupportedError
from jointsearch.study.full_runs import selected
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import open_study

TOKEN = "a-long-token"
PATHS = ("/", "/study/small", "/_dash-layout", "/_dash-dependencies", "/assets/style.css", *OPTUNA_PATHS)
READ_PATHS = (*PATHS, "/api/studies", "/static/bundle.js")


class Browser(Client):
    """Reads every answer to its end, as browsers do, so that served files are closed."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=True, **kwargs)


@pytest.fixture
def client(small: StoredStudy, storage: RDBStorage) -> Iterator[Client]:
    yield Browser(create_dashboard(storage))


@pytest.fixture
def guarded(small: StoredStudy, storage: RDBStorage) -> Iterator[Client]:
    yield Browser(create_dashboard(storage, TOKEN))


def csrf(client: Client) -> dict[str, str]:
    client.get("/")
    cookie = client.get_cookie(csrf_cookie(8080))
    assert cookie is not None
    return {"X-CSRFToken": cookie.value}


def click_select(client: Client, trial: int, headers: dict[str, str]) -> TestResponse:
    """What Dash's page sends when a person presses the button."""
    body = selecting(f"/study/small/plan/{trial}", "<b>the smallest</b>")
    return client.post("/_dash-update-component", json=body, headers=headers)


def selection(storage: RDBStorage) -> int | None:
    return selected(open_study(storage, "small").optuna_study)


def test_both_applications_answer(client: Client) -> None:
    assert b"_dash-config" in client.get("/").data
    assert client.get("/assets/style.css").status_code == 200
    assert client.get("/dashboard/").status_code == 200
    names = [study["study_name"] for study in client.get("/api/studies").json["study_summaries"]]
    assert names == ["small"]


def test_nothing_comes_from_elsewhere(client: Client) -> None:
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", client.get("/").text)
    assert addresses
    assert all(address.startswith("/") and not address.startswith("//") for address in addresses)
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy


@pytest.mark.parametrize("shown", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
def test_every_path_wants_the_token(guarded: Client, shown: str) -> None:
    headers = {"Authorization": f"Bearer {shown}", "Cookie": f"{token_cookie(8080)}={shown}"}
    for path in READ_PATHS:
        for method in ("GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"):
            answer = guarded.open(f"{path}?token={shown}", method=method, headers=headers if shown else {})
            assert answer.status_code == 401, (method, path)
            assert "X-Content-Type-Options" in answer.headers


@pytest.mark.parametrize(
    "path", ["//", "/%2e%2e/api/studies", "/./api/studies", "/API/studies", "//api/studies"]
)
def test_odd_paths_want_the_token_too(guarded: Client, path: str) -> None:
    assert guarded.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/", "/api/studies"])
def test_the_token_opens(guarded: Client, path: str) -> None:
    assert guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_token_moves_from_the_address_into_a_cookie(guarded: Client) -> None:
    answer = guarded.get(f"/study/small?a=1&token={TOKEN}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/study/small?a=1")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert guarded.get("/").status_code == 200
    assert guarded.get("/api/studies").status_code == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cookie_of_https_is_sent_by_https_alone(guarded: Client, scheme: str) -> None:
    answer = guarded.get(f"/?token={TOKEN}", base_url=f"{scheme}://localhost")
    flags = {part.strip() for part in answer.headers["Set-Cookie"].split(";")}
    assert ("Secure" in flags) == (scheme == "https")


def test_the_token_does_not_redirect_elsewhere(guarded: Client) -> None:
    for path in ("//evil.example/x", "/\\evil.example"):
        answer = guarded.open(
            environ_overrides={"PATH_INFO": path, "QUERY_STRING": f"token={TOKEN}", "HTTP_HOST": "localhost"}
        )
        assert re.match(r"/[^/\\]", answer.headers["Location"])


def test_a_token_in_the_address_changes_nothing(guarded: Client, storage: RDBStorage) -> None:
    assert guarded.post(f"/_dash-update-component?token={TOKEN}").status_code == 401


def test_selecting(client: Client, storage: RDBStorage) -> None:
    answer = click_select(client, 3, csrf(client))
    assert answer.status_code == 200, answer.text
    assert selection(storage) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_origin_selects_nothing(client: Client, storage: RDBStorage, headers: dict[str, str]) -> None:
    assert click_select(client, 3, {**csrf(client), **headers}).status_code == 403
    assert selection(storage) is None


@pytest.mark.parametrize("headers", [{}, {"X-CSRFToken": ""}, {"X-CSRFToken": "wrong"}])
def test_no_selection_without_the_csrf_token(
    client: Client, storage: RDBStorage, headers: dict[str, str]
) -> None:
    client.get("/")
    assert click_select(client, 3, headers).status_code == 403
    assert selection(storage) is None


def test_another_name_for_this_machine_is_refused(client: Client) -> None:
    for path in ("/", "/api/studies"):
        assert client.get(path, base_url="http://evil.example:8080").status_code == 403
    assert client.get("/", base_url="http://127.0.0.1:8080").status_code == 200
    assert client.get("/", base_url="http://[::1]:8080").status_code == 200


@pytest.mark.parametrize("header", ["Host", "Origin"])
@pytest.mark.parametrize("value", ["[::1", "http://[::1", "http://[x]", "[", "http://[v1.x"])
def test_what_is_no_address_is_refused(
    client: Client, guarded: Client, storage: RDBStorage, header: str, value: str
) -> None:
    before = csrf(client)
    for path in ("/", "/api/studies", "/dashboard/"):
        for browser, shown in ((client, {}), (guarded, {"Authorization": f"Bearer {TOKEN}"})):
            answer = browser.get(path, headers={header: value, **shown})
            assert answer.status_code < 500, (path, answer.status)
            if (header, value) in (("Host", "[::1"), ("Host", "["), ("Origin", "http://[::1")):
                assert answer.status_code == 400
    assert click_select(client, 3, {**before, header: value}).status_code in (400, 403)
    assert selection(storage) is None


@pytest.mark.parametrize("path", ["/", "/study/small", "/_dash-layout", "/api/studies", "/nowhere"])
def test_no_browser_keeps_what_it_was_shown(client: Client, guarded: Client, path: str) -> None:
    for answer in (client.get(path), guarded.get(path), guarded.get(f"{path}?token={TOKEN}")):
        assert answer.headers.getlist("Cache-Control") == ["no-store"]


def test_each_port_has_cookies_of_its_own(small: StoredStudy, storage: RDBStorage) -> None:
    """Browsers send a cookie to every port of its host: two dashboards must not take each other's away."""
    browser = Browser(create_dashboard(storage, "first", 8080))
    browser.get("/?token=first")
    first = csrf(browser)
    browser.application = create_dashboard(storage, "second", 8081)
    assert browser.get("/").status_code == 401
    browser.get("/?token=second")
    browser.get("/")
    names = {token_cookie(8080), csrf_cookie(8080), token_cookie(8081), csrf_cookie(8081)}
    assert {cookie.key for cookie in browser._cookies.values()} == names
    assert csrf(browser) == first  # the first one's still


def test_a_page_reads_the_cookie_of_its_own_port(storage: RDBStorage) -> None:
    page = Browser(create_dashboard(storage, port=8123)).get("/").text
    assert csrf_cookie(8123) in page


def test_who_looks_after_the_process_needs_no_token(guarded: Client) -> None:
    answer = guarded.get("/healthz", headers={"Host": "10.0.0.5:8080"})
    assert (answer.status_code, answer.text) == (200, "ok")
    assert guarded.post("/healthz").status_code == 401
    assert guarded.get("/healthz/").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("POST", "/api/trials/1/tell"),
        ("PUT", "/api/studies/1/note"),
        ("PATCH", "/artifacts/1"),
    ],
)
def test_optuna_dashboard_is_for_reading(client: Client, storage: RDBStorage, method: str, path: str) -> None:
    before = [study.study_name for study in storage.get_all_studies()]
    answer = client.open(path, method=method, headers=csrf(client), json={})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    overridden = {"X-HTTP-Method-Override": method, **csrf(client)}
    client.get(path, headers=overridden)
    assert [study.study_name for study in storage.get_all_studies()] == before == ["small"]


def test_no_accept_encoding_is_no_error(client: Client) -> None:
    assert client.get("/static/bundle.js").status_code == 200


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for path in ("/", "/dashboard/", "/api/studies", "/nowhere"):
        headers = client.get(path).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert len(headers.getlist("Content-Security-Policy")) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.5", "example.org"])
def test_other_hosts_need_a_token(host: str) -> None:
    with pytest.raises(UnsupportedError, match="--no-token needs a --host of localhost"):
        check_host(host, "")
    check_host(host, TOKEN)


def test_an_empty_host_is_none() -> None:
    with pytest.raises(UnsupportedError, match="it is empty"):
        check_host("", TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_can_do_without(host: str) -> None:
    check_host(host, "")
