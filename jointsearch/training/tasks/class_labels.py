"""Labels as files write them: 1, 1.0 and "1" are one class, and so are "yes" and "yes "."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from jointsearch.errors import DataError, some

Class = str | int

_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
"""As data files write numbers; ``007`` is a code."""

_TRUTHS = ("false", "true")


def number_of(value: Any) -> float | None:
    """The number that a value is, or that a text writes; None where it is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def as_class(value: Any) -> Any:
    """A text without the space around it, or a whole number; None where there is no value."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def classes_of(values: Sequence[Any]) -> tuple[Class, ...]:
    """The sorted classes among the values of a column; raises ``DataError`` where they can be none."""
    wrong = [value for value in values if isinstance(value, list | dict)]
    found = set() if wrong else {as_class(value) for value in values} - {None}
    numbers = {value: as_class(number_of(value)) for value in found}
    are_written_alike = all(
        isinstance(value, str) and value == str(number) for value, number in numbers.items()
    )
    if None not in numbers.values() and not are_written_alike:
        found = set(numbers.values())
    if wrong or not all(isinstance(value, str | int) for value in found):
        raise DataError(
            "the classes of task.label_column must be texts or whole numbers, "
            f"but got {some(wrong or sorted(map(str, found)), 5)}; "
            "numbers to be predicted are a regression: true"
        )
    if any(isinstance(value, str) for value in found):
        found = {str(value) for value in found}
    if len(found) < 2:
        raise DataError(
            "task.label_column must hold two or more classes, but the train split has "
            f"{some(map(repr, found)) or 'no value'}"
        )
    return tuple(sorted(found))


class ClassLabels:
    """The positions of labels among ``classes``.

    ``stated``: the names that the data itself has for the positions in its label column.
    """

    def __init__(self, classes: Sequence[Class], stated: Sequence[str] | None) -> None:
        self._names = [str(of).strip() for of in classes]
        self._stated = None if stated is None or set(self._names).isdisjoint(stated) else list(stated)
        has_numbers = any(number_of(name) is not None for name in self._names)
        self.may_be_positions = not has_numbers
        """Whether a number stands for a position: not where classes are numbers themselves."""

    def position(self, value: Any) -> int | None:
        """Of the class that a label is; None where it is none."""
        label = as_class(value)
        if self._stated is not None:  # whose numbers are positions, also where its names are numbers
            if isinstance(label, int):
                label = self._stated[label] if 0 <= label < len(self._stated) else None
            return self._named(str(label))
        return next((at for at in self._readings(label) if at is not None), None)

    def _readings(self, label: Any) -> Iterator[int | None]:
        """As a name, as a number that is a name, as a truth, as a position."""
        yield self._named(str(label))
        number = as_class(number_of(label))
        yield self._named(str(number))
        truth = str(label).lower()
        folded = [name.lower() for name in self._names]
        if truth in _TRUTHS and folded.count(truth) == 1:
            yield folded.index(truth)
        if self.may_be_positions and isinstance(number, int) and 0 <= number < len(self._names):
            yield number

    def _named(self, name: str) -> int | None:
        return self._names.index(name) if name in self._names else None
