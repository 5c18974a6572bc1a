"""What the URL of a storage says."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from jointsearch.config.study import DEFAULT_STORAGE
from jointsearch.errors import StorageError

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
    """``url`` without user, password and options, also where it is not a valid URL."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def secrets(url: str) -> list[str]:
    """What of ``url`` must never be shown."""
    user_info = re.search(r"//(.*)@", url)
    return [part for part in re.split("[:@]", user_info[1])[1:] if part] if user_info else []


def lacks_password(url: str) -> bool:
    """Whether there is a user without a password; False also of what is no URL."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        return False
    return parsed.username is not None and parsed.password is None


def with_password(url: str, password: str) -> str:
    return make_url(url).set(password=password).render_as_string(hide_password=False)
