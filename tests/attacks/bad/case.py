"""One bad input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Prepare = Callable[[Path], object]
Place = tuple[str | int, ...]

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\ndone"
"""Clears a terminal, names its window, turns the text red and around, and is two lines."""

DIGITS = "9" * 5000
"""More than Python converts to a number."""


@dataclass(frozen=True)
class Case:
    """A command that must be refused."""

    id: str
    arguments: tuple[str, ...]
    prepare: Prepare = lambda folder: None
    """Makes the bad input in the folder that the command is called in."""
    environment: Mapping[str, str] = field(default_factory=dict)
    names: str = ""
    """What the error must name: a bad value must not be refused for something else."""


def places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Where each value is, containers too; of lists the first alone."""
    if place:
        yield place, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*place, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*place, 0))


def replaced(value: Any, place: Place, new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``place``."""
    if not place:
        return new
    first, *rest = place
    if isinstance(value, dict):
        return {**value, first: replaced(value.get(first), tuple(rest), new)}
    assert isinstance(first, int)
    return [replaced(inner, tuple(rest), new) if n == first else inner for n, inner in enumerate(value)]
