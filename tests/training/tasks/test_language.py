"""Answers that are found in generated texts."""

from __future__ import annotations

import pytest

from jointsearch.training.tasks.language import answer, exact_match


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        (" as it is\n", None, "as it is"),
        ("it is 3", r"is (\d+)", "3"),
        ("is 3, no, is 4", r"is (\d+)", "4"),
        ("#### 1,234,567", r"#### ([\d,]+)", "1234567"),
        ("#### -1,000.50", r"#### (-?[\d.,]+)", "-1000.50"),
        ("#### 1,2", r"#### ([\d,]+)", "1,2"),
        ("is red, blue", r"is (.*)", "red, blue"),
        ("nothing", r"is (\d+)", None),
        ("", r"is (\d+)", None),
    ],
)
def test_the_answer_of_a_text(text: str, pattern: str | None, found: str | None) -> None:
    assert answer(text, pattern) == found


def test_a_text_without_an_answer_is_wrong() -> None:
    pattern = r"is (\d+)"
    assert exact_match(["is 1", "is 2", "none", "none"], ["is 1", "is 3", "is 4", "none"], pattern) == 0.25
    assert exact_match(["a ", "b", ""], ["a", "c", ""], None) == pytest.approx(2 / 3)
