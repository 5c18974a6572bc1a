"""Workers on this machine: a process each, started again if they die, a bounded number of times."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from jointsearch.launchers import MAX_RESTARTS, POLL_SECONDS, USER_MISTAKE, Fleet, Launcher, register_launcher
from jointsearch.launchers._signals import on_signals


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
    leave, end = (partial(_send, workers, number) for number in (signal.SIGTERM, signal.SIGKILL))
    with on_signals(leave, end) as stopping:  # they leave after their step
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


def _send(workers: Sequence[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(number)


register_launcher(Launcher("local", run_workers))
