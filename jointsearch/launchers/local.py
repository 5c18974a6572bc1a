"""Workers on this machine: a process each, started again if they die, a bounded number of times."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jointsearch.launchers import MAX_RESTARTS, POLL_SECONDS, USER_MISTAKE, Fleet, Launcher, register_launcher


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


def run_workers(fleet: Fleet) -> bool:
    """A process for each device, which sees no other."""
    workers = []
    for device in fleet.devices:
        alone = only(device)  # whose index is 0 for the worker, whatever the study calls it
        workers.append(_Worker(fleet.command + ["--device", "cuda"] * bool(alone), fleet.environment | alone))
    for worker in workers:
        worker.start()
    running = list(workers)
    in_peace = True
    with _passing_on_signals(workers) as stopping:
        while running:
            fleet.look()
            time.sleep(POLL_SECONDS)
            for worker in list(running):
                status = worker.process.poll()
                if status is None:
                    continue
                name = f"worker {workers.index(worker)} has left with exit status {status}"
                if status == 0 or stopping():
                    running.remove(worker)
                elif status == USER_MISTAKE or worker.num_restarts == MAX_RESTARTS:
                    fleet.tell(f"{name} and stays away")
                    running.remove(worker)
                    in_peace = False
                else:
                    worker.num_restarts += 1
                    fleet.tell(f"{name}; started again ({worker.num_restarts} of {MAX_RESTARTS})")
                    worker.start()
    fleet.look()
    return in_peace and not stopping()


def only(device: str) -> dict[str, str]:
    """The environment of a process that sees this device alone: ``cuda:1`` is the second that we see."""
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[int(index)] if visible else index}


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


register_launcher(Launcher("local", run_workers))
