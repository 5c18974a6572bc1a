"""Records a SQLite storage as text, without the names of its machines: for ``screenshots.py``.

jointsearch study start quickstart --storage sqlite:///studies.db
jointsearch study refine quickstart --storage sqlite:///studies.db
jointsearch study start quickstart --storage sqlite:///studies.db
python studies/record_study.py studies.db studies/quickstart/study.sql.gz
"""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

WORKER = re.compile(r"(,'worker',')(\"[^\"]*\")(')")


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with closing(sqlite3.connect(source)) as database:
        text = "\n".join(database.iterdump()) + "\n"
    target.write_bytes(gzip.compress(anonymous(text).encode(), mtime=0))


def anonymous(text: str) -> str:
    """A dump whose workers are ``here:1``, ``here:2``, …"""
    numbers: dict[str, int] = {}

    def named(found: re.Match[str]) -> str:
        number = numbers.setdefault(found[2], len(numbers) + 1)
        return found[1] + json.dumps(f"here:{number}") + found[3]

    return WORKER.sub(named, text)


if __name__ == "__main__":
    main()
