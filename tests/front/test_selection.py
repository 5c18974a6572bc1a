from __future__ import annotations

import pytest

from jointsearch.errors import StudyError
from jointsearch.front.objectives import parse_bytes
from jointsearch.front.selection import FrontPoint, at_knee, within_bytes, within_quality

BY_LOSS = [
    FrontPoint(trial=7, quality=3.0, model_bytes=1_000),
    FrontPoint(trial=2, quality=1.2, model_bytes=1_500),
    FrontPoint(trial=9, quality=1.1, model_bytes=4_000),
    FrontPoint(trial=4, quality=1.0, model_bytes=8_000),
]
BY_ACCURACY = [
    FrontPoint(trial=7, quality=0.1, model_bytes=1_000),
    FrontPoint(trial=2, quality=0.8, model_bytes=1_500),
    FrontPoint(trial=4, quality=0.9, model_bytes=8_000),
]


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("600kB", 600_000),
        ("600KB", 600_000),
        ("1.5 MB", 1_500_000),
        (" 2gb ", 2_000_000_000),
        ("1TB", 1_000_000_000_000),
        ("7 B", 7),
        ("1234567", 1_234_567),
        (".5kB", 500),
        ("1KiB", 1024),
        ("2MiB", 2 * 1024 * 1024),
        ("2GiB", 2 * 1024 * 1024 * 1024),
        ("1.001 kB", 1001),
        ("4.35MB", 4_350_000),
        ("9007199254740993", 9_007_199_254_740_993),
        ("1TiB", 1024 * 1024 * 1024 * 1024),
    ],
)
def test_parse_bytes(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize(
    "text", ["", "MB", "-5MB", "1.2.3MB", "5 parsecs", "1e6", "1,5MB", "5 M B", "nan", "inf"]
)
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="a size is a number with B, kB, MB") as caught:
        parse_bytes(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(
    ("front", "quality", "budget", "trial"),
    [
        (BY_LOSS, "loss", 4_000, 9),
        (BY_LOSS, "loss", 3_999, 2),
        (BY_LOSS, "loss", 10**9, 4),
        (BY_ACCURACY, "accuracy", 7_999, 2),
        (BY_ACCURACY, "accuracy", 8_000, 4),
    ],
)
def test_within_bytes(front: list[FrontPoint], quality: str, budget: int, trial: int) -> None:
    assert within_bytes(front, budget, quality).trial == trial


def test_no_point_is_small_enough() -> None:
    with pytest.raises(StudyError) as caught:
        within_bytes(BY_LOSS, 999, "loss")
    expected = "no point of the front has at most 999 B; the smallest has 1 kB (1000 bytes)"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("front", "quality", "bound", "trial"),
    [
        (BY_LOSS, "loss", 1.2, 2),
        (BY_LOSS, "loss", 1.19, 9),
        (BY_LOSS, "loss", 5.0, 7),
        (BY_ACCURACY, "accuracy", 0.8, 2),
        (BY_ACCURACY, "accuracy", 0.81, 4),
    ],
)
def test_within_quality(front: list[FrontPoint], quality: str, bound: float, trial: int) -> None:
    assert within_quality(front, bound, quality).trial == trial


def test_no_point_is_good_enough() -> None:
    with pytest.raises(StudyError, match=r"a loss as good as 0\.5; the best is 1\.0000 \(trial 4\)"):
        within_quality(BY_LOSS, 0.5, "loss")
    with pytest.raises(StudyError, match=r"an? accuracy as good as 0\.95; the best is 0\.9000 \(trial 4\)"):
        within_quality(BY_ACCURACY, 0.95, "accuracy")


def test_knee_by_hand() -> None:
    # loss scaled: 1, 0.1, 0.05, 0; bytes scaled: 0, 1/14, 6/14, 1; sums: 1, 0.17, 0.48, 1
    assert at_knee(BY_LOSS, "loss").trial == 2
    # -accuracy scaled: 1, 0.125, 0; bytes scaled: 0, 1/14, 1
    assert at_knee(BY_ACCURACY, "accuracy").trial == 2
    assert at_knee(BY_ACCURACY[2:], "accuracy").trial == 4


def test_of_points_that_are_as_good_the_smaller_and_of_the_same_size_the_better() -> None:
    tied = [
        FrontPoint(trial=1, quality=1.0, model_bytes=2_000),
        FrontPoint(trial=2, quality=1.0, model_bytes=1_500),
        FrontPoint(trial=3, quality=1.2, model_bytes=1_400),
        FrontPoint(trial=4, quality=1.1, model_bytes=1_400),
    ]
    assert within_bytes(tied, 3_000, "loss").trial == 2
    assert within_quality(tied, 1.3, "loss").trial == 4
    assert within_quality(tied, 0.9, "accuracy").trial == 3
