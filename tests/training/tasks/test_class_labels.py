"""Labels as files write them: which class each is, and which classes a column has."""

import re
from typing import Any

import pytest

from jointsearch.errors import DataError
from jointsearch.training.tasks.class_labels import ClassLabels, classes_of, number_of


@pytest.mark.parametrize(
    ("classes", "label", "position"),
    [
        (["no", "yes"], " yes ", 1),
        (["no ", "yes"], "no", 0),
        (["no", "yes"], "1", 1),  # positions in a column that has words too
        (["no", "yes"], "1.0", 1),
        ([0, 1], "0.0", 0),
        ([0, 1], 1.0, 1),
        ([10, 20, 30], 1, None),  # numbers that are classes are no positions
        ([10, 20, 30], 20, 1),
        ([1, 2, 4], 3, None),
        ([1, 2, 4], 0, None),
        (["1", "2", "other"], 0, None),
        (["false", "true"], True, 1),
        (["false", "true"], False, 0),
        (["False", "True"], "true", 1),
        (["FALSE", "true"], "False", 0),
        (["true", "True"], "TRUE", None),  # two that it could be
        (["007", "7"], "007", 0),
        (["007", "8"], 7, None),
        (["no", "yes"], "", None),
        (["no", "yes"], "nan", None),
        (["-1", "1"], -1, 0),
        (["no", "yes"], float("inf"), None),
    ],
)
def test_the_class_of_a_label(classes: list[Any], label: Any, position: int | None) -> None:
    assert ClassLabels(classes, None).position(label) == position


def test_numbers_are_positions_where_the_data_states_names() -> None:
    """As the ``ClassLabel`` of ``datasets`` does."""
    stated = ClassLabels(["2", "1"], ["1", "2"])
    assert [stated.position(label) for label in (0, 1, "1", "2", 2, -1)] == [1, 0, 1, 0, None, None]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["yes", "no", "yes ", " no", None, ""], ("no", "yes")),
        ([1, "1", 0, "0"], (0, 1)),
        (["0.0", "1", "1.0"], (0, 1)),
        (["10", "9"], ("10", "9")),
        ([10, 9, "x"], ("10", "9", "x")),
        (["007", "008"], ("007", "008")),
        ([True, False], ("False", "True")),
        (["true", "false"], ("false", "true")),
        ([1.0, 0.0, float("nan")], (0, 1)),
    ],
)
def test_the_classes_of_a_column(values: list[Any], classes: tuple[Any, ...]) -> None:
    assert classes_of(values) == classes


@pytest.mark.parametrize(
    ("values", "got"), [(["0.50", "1.0"], "0.5, 1;"), ([[1], [2]], "[1], [2];"), ([0.5, "a"], "0.5, a;")]
)
def test_columns_of_no_classes(values: list[Any], got: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"must be texts or whole numbers, but got {got}")):
        classes_of(values)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0.50", 0.5),
        (" 3 ", 3.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        (2, 2.0),
        ("oops", None),
        ("nan", None),
        ("inf", None),
        ("1,5", None),
        ("1_000", None),
        ("٣", None),
        (True, None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_numbers_that_are_written(value: Any, number: float | None) -> None:
    assert number_of(value) == number
