"""Every family through a whole study; and what was recorded of it holds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from families.record import PAGE, RECORDED, page
from families.whole_study import run
from families.zoo import FAMILIES

FOUND = json.loads(RECORDED.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_searched_trained_and_loaded_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # foretelling memory has tests of its own, and takes longer than all of this
    monkeypatch.setattr("jointsearch.creating.read_memory", lambda config, layout: None)
    found = run(name, FAMILIES[name], tmp_path)
    assert all(math.isfinite(loss) for loss in found.losses)
    # random weights: a trial that is far from chance computes with wrong numbers
    chance = FOUND[name]["losses"]
    assert found.losses == pytest.approx(chance, rel=0.05)
    assert found.loaded == pytest.approx(found.trained, rel=1e-4)
    assert found.searched_share == FOUND[name]["searched_share"]
    assert list(found.notes) == FOUND[name]["notes"]


def test_the_docs_say_what_was_recorded() -> None:
    assert len(FOUND) >= 45
    assert FOUND.keys() == FAMILIES.keys()
    assert PAGE.read_text() == page(FOUND)
