"""Times as options have them."""

from __future__ import annotations

import pytest

from jointsearch.cli.worker import parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("1e1m", 600)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten", "10d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time is a number with s, m or h"):
        parse_seconds(text)
