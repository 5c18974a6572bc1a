"""What Tab offers for names, files and devices. It says nothing where it knows nothing.

Commands import this for their arguments, so that what only Tab needs is imported in the functions.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

PATIENCE_SECONDS = 2.0
"""How long a storage may take to answer somebody who waits at the prompt."""

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""A folder for each GPU, there without torch."""


def study_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The studies of the storage in use."""
    return _starting(_stored_names(ctx), incomplete)


def trials_and_runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Studies, and else the folders of full runs."""
    return study_names(ctx, parameter, incomplete) or _left_to_the_shell(incomplete, "dir")


def study_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """YAML files and the embedded study."""
    return _files(incomplete, (".yaml", ".yml"), names=["quickstart"])


def plan_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _files(incomplete, (".json",))


def devices(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The CPU, and the GPUs that the driver shows; where it shows none, only that there could be one."""
    return _starting(["cpu", "cuda", *(f"cuda:{index}" for index in range(num_gpus()))], incomplete)


def strategies(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last of several names with commas between."""
    from jointsearch.strategies.registry import STRATEGIES

    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    names = [name for name in ("configurations", "all", *STRATEGIES) if name not in given]
    return [CompletionItem(f"{before}{comma}{item.value}") for item in _starting(names, last)]


def num_gpus() -> int:
    """NVIDIA's, as the driver's folder has them; 0 where there is no such folder."""
    with suppress(OSError):
        return len(list(NVIDIA.iterdir()))
    return 0


def _stored_names(ctx: click.Context) -> list[str]:
    from jointsearch.config.study import DEFAULT_STORAGE
    from jointsearch.study.storage.opening import open_storage
    from jointsearch.study.study import study_names

    url = ctx.params.get("storage_url") or os.environ.get("JOINTSEARCH_STORAGE") or DEFAULT_STORAGE
    return _within(PATIENCE_SECONDS, lambda: study_names(open_storage(url)))


def _within(seconds: float, ask: Callable[[], list[str]]) -> list[str]:
    """What ``ask`` says, or nothing where it fails or takes longer."""
    found: list[str] = []

    def run() -> None:
        with suppress(Exception):
            found.extend(ask())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found


def _files(incomplete: str, suffixes: tuple[str, ...], names: Iterable[str] = ()) -> list[CompletionItem]:
    """The names, and files of that kind; if there are none, the shell offers all files and folders."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    files: list[str] = []
    with suppress(OSError):
        found = Path(folder or ".").expanduser().iterdir()
        files = sorted(f"{folder}{file.name}" for file in found if file.suffix in suffixes)
    return _starting([*names, *files], incomplete) or _left_to_the_shell(incomplete, "file")


def _left_to_the_shell(incomplete: str, kind: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type=kind)]


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
