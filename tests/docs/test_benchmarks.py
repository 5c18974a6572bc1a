"""The scripts of studies/ still find what they import."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import jointsearch

STUDIES = Path(jointsearch.__file__).parents[1] / "studies"
SCRIPTS = sorted(path.relative_to(STUDIES) for path in STUDIES.rglob("*.py"))


def test_there_are_scripts() -> None:
    assert Path("benchmarks/verdicts.py") in SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_it_can_be_imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str((STUDIES / script).parent))  # as where it is run
    found = runpy.run_path(str(STUDIES / script))
    assert ("main" in found) == (
        "__main__" in (STUDIES / script).read_text(encoding="utf-8")
    )  # or a part of one
