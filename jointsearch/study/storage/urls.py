"""What the URL of a storage says."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from jointsearch.config.study import DEFAULT_STORAGE
from jointsearch.errors import StorageError, one_line

GRPC = "grpc://"


def is_proxy(url: str) -> bool:
    """Whether a storage proxy is there, not a database."""
    return url.startswith(GRPC)


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; raises ``StorageError`` where ``url`` is none at all."""
    try:
        parsed = make_url(url)
        is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    except (SQLAlchemyError, ValueError):
        raise StorageError(
            f"the storage must be a URL such as {DEFAULT_STORAGE}, but got '{redacted(url)}'"
        ) from None
    if not is_file:
        return None
    database = str(parsed.database)
    # SQLite's own URIs, such as sqlite:///file:studies.db?mode=ro&uri=true
    return Path(database.removeprefix("file:") if "uri" in parsed.query else database)


def redacted(url: str) -> str:
    """``url`` on one line without user, password and options, also where it is not a valid URL."""
    scheme, _, rest = url.partition("//") if "//" in url else url.partition(":")
    if "@" in rest:
        url = f"{scheme}//***@{rest.rpartition('@')[2]}"
    return one_line(url.partition("?")[0])


def secrets(url: str) -> list[str]:
    """What of ``url`` must never be shown."""
    _, _, rest = url.partition("//") if "//" in url else url.partition(":")
    user_info = rest.rpartition("@")[0]
    options = dict(parse_qsl(url.partition("?")[2]))
    found = [*re.split("[:@\\s]", user_info)[1:], *(options[key] for key in options if "password" in key)]
    return [shown for part in found if part for shown in (part, unquote(part))]


def lacks_password(url: str) -> bool:
    """Whether there is a user without a password; False also of what is no URL."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        return False
    return parsed.username is not None and parsed.password is None


def with_password(url: str, password: str) -> str:
    return make_url(url).set(password=password).render_as_string(hide_password=False)
