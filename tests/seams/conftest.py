"""Packages that are installed for one process alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
OUTSIDE = HERE / "outside"
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Installed:
    """A folder on a process's path, with packages of one file each."""

    folder: Path

    def add(self, module: str, group: str = "") -> None:
        """One file, and where a ``group`` is named the entry point that makes it known."""
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        shutil.copy(OUTSIDE / f"{module}.py", site)
        if group:
            info = site / f"{module}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[jointsearch.{group}]\n{module} = {module}\n")

    def python(self, code: str, environment: Mapping[str, str] | None = None) -> Any:
        """What the code gives to ``say``, run by a process that sees the packages."""
        path = os.pathsep.join(map(str, (self.folder / "site", ROOT, HERE, HERE.parent)))
        prelude = "import json\nfrom pathlib import Path\n\ndef say(found):\n    print(json.dumps(found))\n\n"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", prelude + code],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)
