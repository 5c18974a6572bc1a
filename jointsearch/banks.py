"""Where banks lie on this machine: quantized weights that all its workers share, one folder per checkpoint.

The folder of all banks is ``banks`` in the cache folder: that of the environment variable JOINTSEARCH_CACHE,
else ``jointsearch`` in XDG_CACHE_HOME, else ``~/.cache/jointsearch``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jointsearch.errors import OutputError, nearest

CACHE = "JOINTSEARCH_CACHE"
"""Environment variable: the folder for what can be made again."""

ABOUT = "bank.json"
"""In a bank's folder: the model's name, and what the bank has of its checkpoint."""

LOCK = "lock"
"""In a bank's folder: held by who writes there."""


@dataclass(frozen=True)
class Bank:
    """One checkpoint's bank, as it lies on disk."""

    name: str
    model: str
    """What the study that made it calls its model."""
    num_bytes: int
    is_whole: bool
    """Whether all of the checkpoint is there; a bank that is not is finished by the next worker."""


def cache_folder() -> Path:
    """The folder for what can be made again; it may not be there yet."""
    if own := os.environ.get(CACHE):
        return Path(own).expanduser()
    general = os.environ.get("XDG_CACHE_HOME")
    return (Path(general) if general else Path.home() / ".cache") / "jointsearch"


def banks_folder() -> Path:
    return cache_folder() / "banks"


def stored_banks() -> list[Bank]:
    """All banks of this machine, by name."""
    folders = banks_folder()
    if not folders.is_dir():
        return []
    return [_bank(folder) for folder in sorted(folders.iterdir()) if folder.is_dir()]


def clear_banks(names: Iterable[str] = ()) -> list[Bank]:
    """Delete these banks, or all; raises ``OutputError`` where there is none of a name, or it must stay.

    A worker that uses one goes on: it has the weights of its trial, and makes the bank again for the next.
    """
    there = {bank.name: bank for bank in stored_banks()}
    chosen = list(names) or list(there)
    for name in chosen:
        if name not in there:
            raise OutputError(f"a bank must be one of this machine's, but got '{name}'{nearest(name, there)}")
    for name in chosen:
        try:
            shutil.rmtree(banks_folder() / name)
        except OSError as error:
            raise OutputError(
                f"{error.filename or name}: cannot be deleted ({error.strerror}); "
                "stop the workers that use it, or ask who owns the folder"
            ) from None
    return [there[name] for name in chosen]


def about(folder: Path) -> dict[str, object]:
    """What a bank says of itself; nothing where it is not whole."""
    try:
        found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _bank(folder: Path) -> Bank:
    known = about(folder)
    sizes = []
    for path in folder.iterdir():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # of a worker that is writing
            continue
    return Bank(folder.name, str(known.get("model", "")), sum(sizes), bool(known))
