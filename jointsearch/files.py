"""Files that are written whole or not at all."""

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
