"""Places workers of a study on this machine, on a Ray cluster, or on SLURM.

A worker is the same everywhere: ``python -m jointsearch worker NAME``, with the storage's URL in its
environment, since a command line can be read by everyone on a machine. A launcher is one file that registers
itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jointsearch.config.trust import TRUST_REMOTE_CODE, trusts_remote_code
from jointsearch.errors import UnsupportedError
from jointsearch.registry import Registry

MAX_RESTARTS = 3
"""Of each worker that dies."""

POLL_SECONDS = 0.5

USER_MISTAKE = 2
"""The exit status of a worker that would fail again."""


@dataclass(frozen=True)
class Fleet:
    """The workers that are wanted."""

    study: str
    storage_url: str
    devices: tuple[str, ...]
    """One worker for each."""
    look: Callable[[], None]
    """Called all the while."""
    tell: Callable[[str], None]
    """What a person should know."""
    drain: Callable[[], None]
    """Tell the study's workers, wherever they are, to give back their trials and leave."""
    options: Mapping[str, str]
    """Of the launcher, as ``--launcher-option`` has them."""

    @property
    def command(self) -> list[str]:
        """Of a worker."""
        return [sys.executable, "-m", "jointsearch", "worker", self.study, "--quiet"]

    @property
    def environment(self) -> dict[str, str]:
        """Of a worker, beside that of this process."""
        trust = {TRUST_REMOTE_CODE: "1"} if trusts_remote_code() else {}
        return {"JOINTSEARCH_STORAGE": self.storage_url, **trust}

    @property
    def wants_gpus(self) -> bool:
        """Whether the study may use a GPU where there is one."""
        return all(device == "auto" or device.startswith("cuda") for device in self.devices)


@dataclass(frozen=True)
class Launcher:
    """A place for workers."""

    name: str
    """As ``--launcher`` has it."""
    run_workers: Callable[[Fleet], bool]
    """Returns when all workers have left, and tells whether all left in peace."""
    takes_options: bool = False
    """Whether there are ``Fleet.options``; the launcher says itself what is wrong with one."""


LAUNCHERS: Registry[Launcher] = Registry("launcher", folder="jointsearch.launchers")


def register_launcher(launcher: Launcher) -> Launcher:
    """Make a launcher known by its name, for ``--launcher``."""
    return LAUNCHERS.register(launcher)


def devices_for(
    device: str, num_workers: int | None, workers_per_gpu: int, num_gpus: Callable[[], int]
) -> list[str]:
    """A device for each worker: the GPUs in turn where the study can use them, else the study's own."""
    if device not in ("auto", "cuda"):
        return [device] * (num_workers or workers_per_gpu)
    gpus = num_gpus()
    wanted = num_workers or max(1, gpus) * workers_per_gpu
    return [f"cuda:{index % gpus}" if gpus else device for index in range(wanted)]


def find_launcher(name: str, options: Mapping[str, str]) -> Launcher:
    """The launcher; raises ``UnsupportedError`` where an extra is missing, or it has no options."""
    if name not in LAUNCHERS:
        raise UnsupportedError(LAUNCHERS.problem(name))
    try:
        launcher = LAUNCHERS[name]
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            f"--launcher {name} needs {error.name}, which is not installed; pip install 'jointsearch[{name}]'"
        ) from None
    if options and not launcher.takes_options:
        raise UnsupportedError(
            f"--launcher-option is for a launcher that has options, but {name} has none, and got "
            f"{', '.join(options)}; leave it out, or choose another --launcher"
        )
    return launcher


def run_workers(launcher: str, fleet: Fleet) -> bool:
    """Run the fleet's workers until all have left; raises ``UnsupportedError``."""
    return find_launcher(launcher, fleet.options).run_workers(fleet)
