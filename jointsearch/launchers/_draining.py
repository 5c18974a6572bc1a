"""Ctrl-C for workers on other machines: first they are drained through the study, then they are ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jointsearch.launchers import Fleet


@contextmanager
def draining(fleet: Fleet, end: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Gives whether an end is wanted; at the second Ctrl-C or SIGTERM ``end()`` is called."""
    seen: list[int] = []

    def handle(number: int, frame: object) -> None:
        seen.append(number)
        if len(seen) == 1:
            fleet.tell("the workers give their trials back and leave; once more ends them at once")
            fleet.drain()
        else:
            end()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
