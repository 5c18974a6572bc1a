"""Workers as SLURM jobs, through submitit.

Options are submitit's parameters of a job (``timeout_min``, ``mem_gb``, ``cpus_per_task``, …) and SLURM's own
with the prefix ``slurm_`` (``slurm_partition``); ``folder`` is where submitit keeps logs, and ``cluster``
can be ``local`` to try the way on this machine. The storage's URL reaches a job in its environment, which
SLURM hands on, and is in no file.
"""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission, environment_variables

from jointsearch.errors import UnsupportedError, first_line
from jointsearch.launchers import MAX_RESTARTS, POLL_SECONDS, USER_MISTAKE, Fleet, Launcher, register_launcher
from jointsearch.launchers._signals import draining

FOLDER = "slurm-logs"


@dataclass
class Work:
    """A worker inside of a job, started again if it dies; SLURM starts a preempted job again."""

    command: list[str]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __call__(self) -> int:
        for _ in range(1 + MAX_RESTARTS):
            self.process = subprocess.Popen(self.command)
            status = self.process.wait()
            if status in (0, USER_MISTAKE):
                break
        return status

    def checkpoint(self) -> DelayedSubmission:
        """Drain the worker before the job is preempted or over its time, and submit the job again."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        return DelayedSubmission(Work(self.command))


def run_workers(fleet: Fleet) -> bool:
    """A job for each device; devices are SLURM's to choose."""
    options = {key: _number(value) for key, value in fleet.options.items()}
    executor = _executor(str(options.pop("folder", FOLDER)), str(options.pop("cluster", "slurm")))
    gpus = {"gpus_per_node": 1} if fleet.wants_gpus and executor.cluster == "slurm" else {}
    try:
        executor.update_parameters(name=f"jointsearch-{fleet.study}", **(gpus | options))
    except (NameError, ValueError, TypeError) as error:
        raise UnsupportedError(
            f"--launcher-option needs parameters of submitit, but {first_line(error)}"
        ) from None
    with environment_variables(**fleet.environment):  # a job has the environment of its submission
        jobs = [executor.submit(Work(fleet.command)) for _ in fleet.devices]
    fleet.tell(f"jobs {', '.join(job.job_id for job in jobs)}; logs in {executor.folder}")
    pending = list(jobs)
    in_peace = True

    def end() -> None:
        for job in pending:
            job.cancel()

    with draining(fleet, end) as stopping:
        while pending:
            fleet.look()
            time.sleep(POLL_SECONDS)
            for job in [job for job in pending if job.done()]:
                pending.remove(job)
                status = _result(job)
                if status != 0 and not stopping():
                    fleet.tell(f"job {job.job_id} has left ({status}) and stays away")
                    in_peace = False
    fleet.look()
    return in_peace and not stopping()


def _executor(folder: str, cluster: str) -> submitit.AutoExecutor:
    try:
        return submitit.AutoExecutor(folder=folder, cluster=cluster)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"--launcher slurm needs sbatch on this machine, but {first_line(error)}; "
            "start it on a login node, or try the way with --launcher-option cluster=local"
        ) from None


def _result(job: submitit.Job[int]) -> Any:
    """The worker's exit status, or why there is none."""
    try:
        return job.result()
    except Exception as error:  # submitit raises what the job raised, or its own
        return first_line(error)


def _number(value: str) -> str | int:
    return int(value) if value.isdigit() else value


register_launcher(Launcher("slurm", run_workers, takes_options=True))
