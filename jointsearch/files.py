"""Files that are written whole or not at all, the folders for them, and files that others have written."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from jointsearch.errors import OutputError

LARGEST_BYTES = 100_000_000
"""Of a text that is read as a whole: a plan of a thousand layers has a few millions."""


def as_file_name(text: str) -> str:
    """``text`` without what leads to another folder, or what a shell or a terminal would obey."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def read_text(path: Path) -> str:
    """The text of a file; raises ``OSError``, also of a pipe or a device, or ``UnicodeDecodeError``."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    if found.st_size > LARGEST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_BYTES:,} bytes", str(path))
    return path.read_text(encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises ``OutputError`` where the folder cannot be written."""
    if not path.name:
        raise OutputError(f"{path}: cannot be written (it is a folder)")
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
