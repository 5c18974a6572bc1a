from __future__ import annotations

import pytest

from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value, qualities


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.234 kB"),
        (1_234_567, "1.235 MB"),
        (600_000, "600 kB"),
        (2_500_000_000, "2.5 GB"),
        (3 * 10**12, "3 TB"),
    ],
)
def test_format_bytes(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("objective", "value", "text"),
    [
        ("loss", 1.23456, "1.2346"),
        ("accuracy", 0.5, "0.5000"),
        ("model_bytes", 1_234_567.0, "1.235 MB"),
        ("peak_memory_bytes", 5e9, "5 GB"),
        ("tokens_per_second", 1234.5678, "1235/s"),
    ],
)
def test_format_value(objective: str, value: float, text: str) -> None:
    assert format_value(objective, value) == text


def test_which_way_is_better() -> None:
    grow = {name for name, objective in OBJECTIVES.items() if objective.sign == -1}
    assert set(OBJECTIVES) - grow == {
        "loss",
        "perplexity",
        "bits_per_byte",
        "model_bytes",
        "peak_memory_bytes",
        "training_memory",
        "serving_memory",
    }
    assert all(objective.sign == 1 for name, objective in OBJECTIVES.items() if name not in grow)
    assert all(name == objective.name for name, objective in OBJECTIVES.items())


def test_every_quality_is_an_objective() -> None:
    assert set(qualities()) < set(OBJECTIVES)
    assert not {name for name in qualities() if "bytes" in name and name != "bits_per_byte"}
