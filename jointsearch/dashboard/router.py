"""One address for two applications: ours at ``/``, optuna-dashboard for reading beside it.

optuna-dashboard cannot live under a prefix (its bundle names ``/dashboard``, ``/api``, …), so these
paths are passed on as they are. It has no authentication and could change and delete studies: only
GET and HEAD reach it. The gate stands before both: a token in constant time, and no request from
another origin that could change anything.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OPTUNA_PATHS = ("/dashboard", "/api", "/static", "/csv", "/artifacts")
CODE_PATHS = ("/_dash-component-suites/", "/assets/", "/static/")
"""What browsers may keep: the applications' own code, in which there is nothing of a study."""
READING = ("GET", "HEAD")
HEALTH = "/healthz"
"""What those ask who look after the process. It needs no token and says nothing of a study."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        # Dash starts itself by an inline script and Plotly writes styles; nothing comes from elsewhere
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
)


def token_cookie(port: int) -> str:
    """The cookie of the token. It bears the port, since browsers send a cookie to every port of a host."""
    return f"jointsearch_token_{port}"


def csrf_cookie(port: int) -> str:
    """The cookie in which Dash's pages find what they send back as X-CSRFToken."""
    return f"jointsearch_csrf_{port}"


def is_optuna_path(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in OPTUNA_PATHS)


class Router:
    """A WSGI application; thread-safe if both of its parts are."""

    def __init__(self, ours: WSGIApplication, optuna: WSGIApplication, token: str, port: int) -> None:
        """``token``: what every request must show; empty for none. ``port``: which is listened to."""
        self._ours = ours
        self._optuna = optuna
        self._token = token
        self._token_cookie = token_cookie(port)
        self._csrf_cookie = csrf_cookie(port)
        self._csrf = secrets.token_urlsafe(32)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        start = _with_headers(start_response, keeps=path.startswith(CODE_PATHS))
        if not _is_readable(environ):
            return _answer(start, "400 Bad Request", "Host and Origin must be addresses")
        reading = environ["REQUEST_METHOD"] in READING
        if path == HEALTH and reading:
            return _answer(start, "200 OK", "ok")
        if self._token and not self._is_known(environ):
            return _ask_for_token(start)
        if self._token and reading and "token" in _query(environ):
            return self._keep_token(environ, start)
        if not self._token and _host(environ) not in LOOPBACK:
            # another site's name may have been turned to this machine (DNS rebinding)
            return _answer(start, "403 Forbidden", f"without a token the host must be one of {LOOPBACK}")
        if not reading and not _is_same_origin(environ):
            return _answer(start, "403 Forbidden", "a request from another origin cannot change anything")
        if not is_optuna_path(path):
            if not reading and not _same(environ.get("HTTP_X_CSRFTOKEN", ""), self._csrf):
                return _answer(
                    start, "403 Forbidden", "the X-CSRFToken is missing or old; load the page again"
                )
            return self._ours(environ, self._with_csrf(environ, start))
        if not reading:
            return _answer(
                start,
                "405 Method Not Allowed",
                "optuna-dashboard is here for reading only",
                ("Allow", ", ".join(READING)),
            )
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # without one it answers 500
        return self._optuna(environ, start)

    def _is_known(self, environ: WSGIEnvironment) -> bool:
        scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        shown = [
            bearer.strip() if scheme.lower() == "bearer" else "",
            _cookie(environ, self._token_cookie),
        ]
        if environ["REQUEST_METHOD"] in READING:
            shown.append(_query(environ).get("token", ""))
        matches = [_same(text, self._token) for text in shown]  # all: the time must not say which was near
        return any(matches)

    def _with_csrf(self, environ: WSGIEnvironment, start: StartResponse) -> StartResponse:
        """Give the page its CSRF token, which scripts of ours must be able to read."""
        if _cookie(environ, self._csrf_cookie) == self._csrf:
            return start
        cookie = ("Set-Cookie", f"{self._csrf_cookie}={self._csrf}; Path=/; SameSite=Strict")

        def with_cookie(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start(status, [*headers, cookie], *rest)

        return with_cookie

    def _keep_token(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Put the token into a cookie and out of the address, which histories and logs keep."""
        name = self._token_cookie
        cookie = SimpleCookie({name: self._token})
        cookie[name]["path"], cookie[name]["samesite"] = "/", "Strict"
        cookie[name]["httponly"] = True
        if environ.get("wsgi.url_scheme") == "https":
            cookie[name]["secure"] = True
        rest = urlencode([(key, value) for key, value in _pairs(environ) if key != "token"])
        # one leading slash: two would name another host
        target = "/" + environ.get("PATH_INFO", "/").lstrip("/\\")
        location = quote(target) + (f"?{rest}" if rest else "")
        return _answer(
            start, "303 See Other", "", ("Location", location), ("Set-Cookie", cookie[name].OutputString())
        )


def _ask_for_token(start: StartResponse) -> Iterable[bytes]:
    return _answer(
        start,
        "401 Unauthorized",
        "open the address with ?token=… that `jointsearch dashboard` has printed, or send a bearer token",
        ("WWW-Authenticate", "Bearer"),
    )


def _pairs(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    return parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)


def _query(environ: WSGIEnvironment) -> dict[str, str]:
    return dict(_pairs(environ))


def _same(shown: str, expected: str) -> bool:
    """In a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode(), expected.encode())


def _host(environ: WSGIEnvironment) -> str:
    """The name that the client has asked for, without its port."""
    return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""


def _is_readable(environ: WSGIEnvironment) -> bool:
    """Whether the names that a request gives are any: ``[::1`` is none."""
    try:
        _host(environ)
        urlsplit(environ.get("HTTP_ORIGIN", ""))
    except ValueError:
        return False
    return True


def _cookie(environ: WSGIEnvironment, name: str) -> str:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _is_same_origin(environ: WSGIEnvironment) -> bool:
    """Whether a browser's page of ours, or no browser, has sent this."""
    origin = environ.get("HTTP_ORIGIN")
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc == environ.get("HTTP_HOST")


def _with_headers(start_response: StartResponse, *, keeps: bool) -> Any:
    """With our headers in place of the application's; ``keeps``: whether a browser may keep the answer."""
    added = SECURITY_HEADERS if keeps else (*SECURITY_HEADERS, ("Cache-Control", "no-store"))

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        ours = {name.lower() for name, _ in added}
        kept = [(name, value) for name, value in headers if name.lower() not in ours]
        return start_response(status, [*kept, *added], *rest)

    return start


def _answer(start: StartResponse, status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = text.encode()
    start(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *headers,
        ],
    )
    return [body]
