"""Several workers on this machine: a process each, started again if they die, a bounded number of times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

POLL_SECONDS = 0.5
MAX_RESTARTS = 3
"""Of each worker."""


@dataclass
class _Worker:
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)
    num_restarts: int = 0

    def start(self) -> None:
        # a session of its own: Ctrl-C reaches the workers through this process, once
        self.process = subprocess.Popen(
            self.command, env=os.environ | self.environment, start_new_session=True
        )


def run_workers(
    name: str,
    storage_url: str,
    devices: Sequence[str],
    look: Callable[[], None],
    tell: Callable[[str], None],
) -> bool:
    """Run a worker of the study on each device until all have left; whether all left in peace.

    ``look`` is called all the while. The storage's URL goes through the environment: a command line can
    be read by everyone on the machine.
    """
    workers = [
        _Worker(
            [sys.executable, "-m", "jointsearch", "worker", name, "--quiet"],
            {"JOINTSEARCH_STORAGE": storage_url, **_only(device)},
        )
        for device in devices
    ]
    for worker in workers:
        worker.start()
    running = list(workers)
    in_peace = True
    with _passing_on_signals(workers) as stopping:
        while running:
            look()
            time.sleep(POLL_SECONDS)
            for worker in list(running):
                status = worker.process.poll()
                if status is None:
                    continue
                if status == 0 or stopping():
                    running.remove(worker)
                elif status == 2 or worker.num_restarts == MAX_RESTARTS:
                    tell(f"worker {workers.index(worker)} has left with exit status {status} and stays away")
                    running.remove(worker)
                    in_peace = False
                else:
                    worker.num_restarts += 1
                    tell(
                        f"worker {workers.index(worker)} has left with exit status {status}; "
                        f"started again ({worker.num_restarts} of {MAX_RESTARTS})"
                    )
                    worker.start()
    look()
    return in_peace and not stopping()


def _only(device: str) -> dict[str, str]:
    """The environment of a worker that sees its own device alone."""
    kind, _, index = device.partition(":")
    return {"CUDA_VISIBLE_DEVICES": index} if kind == "cuda" and index else {}


@contextmanager
def _passing_on_signals(workers: Sequence[_Worker]) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM go to the workers, which leave after their step; a second one ends them at once."""
    seen: list[int] = []

    def handle(number: int, frame: object) -> None:
        seen.append(number)
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM if len(seen) == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
