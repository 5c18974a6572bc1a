"""Ctrl-C while workers run: the first asks them to leave, a second one ends them at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from jointsearch.launchers import Fleet


@contextmanager
def on_signals(leave: Callable[[], None], end: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Gives whether there was a Ctrl-C or SIGTERM; the first calls ``leave()``, others ``end()``."""
    seen: list[int] = []

    def handle(number: int, frame: object) -> None:
        seen.append(number)
        if len(seen) == 1:
            leave()
        else:
            end()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def draining(fleet: Fleet, end: Callable[[], None]) -> AbstractContextManager[Callable[[], bool]]:
    """For workers on other machines, which are told through the study that they are to leave."""

    def drain() -> None:
        fleet.tell("the workers give their trials back and leave; once more ends them at once")
        fleet.drain()

    return on_signals(drain, end)
