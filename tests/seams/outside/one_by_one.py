"""A launcher: one worker after the other, each told to whom it belongs."""

import os
import subprocess

from jointsearch.launchers import Fleet, Launcher, register_launcher


def run_workers(fleet: Fleet) -> bool:
    codes = []
    for device in fleet.devices:
        fleet.tell(f"a worker for {device}")
        codes.append(subprocess.run(fleet.command, env=os.environ | fleet.environment).returncode)
    return not any(codes)


register_launcher(Launcher("one-by-one", run_workers))
