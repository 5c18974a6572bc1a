"""SHA-256 of checkpoint files, remembered: a file of many gigabytes is read once, not by every worker.

What is remembered goes by the time of the file's last change of any kind (ctime), which no copy with
``cp -p``, ``rsync -t`` or ``tar`` can set back.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from jointsearch.banks import cache_folder
from jointsearch.errors import JointSearchError
from jointsearch.files import write_text

SETTLED_SECONDS = 2.0
"""A file that was changed so shortly ago may change again within the same tick of its clock."""


def digest_of(path: Path) -> str:
    """The hex digest of a file's content; raises ``OSError``."""
    place = str(path.resolve())
    status = path.stat()
    now = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    memory = cache_folder() / "digests.json"
    known = _known(memory)
    if place in known and known[place][:-1] == now:
        return str(known[place][-1])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - status.st_ctime > SETTLED_SECONDS:
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps({**_known(memory), place: [*now, digest]}))
        except (OSError, JointSearchError):
            pass  # it is read again next time
    return digest


def _known(memory: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
