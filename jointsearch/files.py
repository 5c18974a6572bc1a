"""Files that are written whole or not at all, and the folders for them."""

from __future__ import annotations

import os
from pathlib import Path

from jointsearch.errors import OutputError


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises ``OutputError`` where the folder cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)


def make_folder_of(path: Path) -> None:
    """Make the folders that ``path`` is to lie in; raises ``OutputError`` where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}: {error.filename})") from None
