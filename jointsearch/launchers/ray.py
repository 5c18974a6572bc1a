"""Workers on a Ray cluster: that of ``RAY_ADDRESS``, else one on this machine.

Every worker is a Ray task that holds one GPU where the study may use one, else one CPU. Ray starts a
worker that dies again, on whatever node has room.
"""

from __future__ import annotations

import logging
import os
import subprocess

import ray

from jointsearch.launchers import MAX_RESTARTS, POLL_SECONDS, USER_MISTAKE, Fleet, Launcher, register_launcher
from jointsearch.launchers._signals import draining


class WorkerDied(Exception):
    """So that Ray runs the task again."""


def _work(command: list[str], environment: dict[str, str]) -> int:
    """Run a worker on some node of the cluster; its exit status if it is no use to run it again."""
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        status = process.wait()
    except BaseException:  # the task is cancelled
        process.kill()
        raise
    if status not in (0, USER_MISTAKE):
        raise WorkerDied(f"exit status {status}")
    return status


def run_workers(fleet: Fleet) -> bool:
    """A task for each device; devices are Ray's to choose."""
    owned = not ray.is_initialized()
    if owned:
        num_cpus = None if os.environ.get("RAY_ADDRESS") else max(len(fleet.devices), os.cpu_count() or 1)
        ray.init(num_cpus=num_cpus, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        return _run(fleet)
    finally:
        if owned:
            ray.shutdown()


def _run(fleet: Fleet) -> bool:
    on_gpu = fleet.wants_gpus and any(n["Resources"].get("GPU") for n in ray.nodes())  # type: ignore[no-untyped-call]
    place = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
    task = ray.remote(_work).options(
        **place, max_retries=MAX_RESTARTS, retry_exceptions=[WorkerDied], name="jointsearch worker"
    )
    numbers = {task.remote(fleet.command, fleet.environment): n for n in range(len(fleet.devices))}
    pending = list(numbers)
    in_peace = True

    def end() -> None:
        for reference in pending:
            ray.cancel(reference, force=True)

    with draining(fleet, end) as stopping:
        while pending:
            fleet.look()
            done, pending = ray.wait(pending, timeout=POLL_SECONDS)
            for reference in done:
                try:
                    status = ray.get(reference)
                except (ray.exceptions.RayError, WorkerDied) as error:
                    status = str(error).strip().splitlines()[-1]
                if status != 0 and not stopping():
                    fleet.tell(f"worker {numbers[reference]} has left ({status}) and stays away")
                    in_peace = False
    fleet.look()
    return in_peace and not stopping()


register_launcher(Launcher("ray", run_workers))
