"""A storage, and a study that a runner without torch has run."""

from __future__ import annotations

from pathlib import Path

import pytest

import jointsearch as js


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def study(url: str) -> js.Study:
    """Sixteen trials of the double that the package ships, the 12 uniform plans among them."""
    made = js.create_study({"name": "small"}, url, runner=js.testing.FakeRunner(noise=0.001))
    made.optimize(16)
    return made
