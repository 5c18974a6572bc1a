"""A finished run, written for what serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.training.quiet import quiet_libraries

if TYPE_CHECKING:
    from jointsearch.export.verification import Verification


@dataclass(frozen=True)
class ExportResult:
    """A run that was written for a runtime."""

    output_dir: Path
    """With what the runtime loads, ``README.md``, ``plan.json`` and ``verification.json``."""
    target: str
    verification: Verification | None
    """The export in its runtime beside the run; None where it was not loaded there."""
    url: str | None = None
    """Of the repository on the Hub that it was pushed to."""


def export_model(
    run: str | PathLike[str],
    target: str,
    output_dir: str | PathLike[str],
    *,
    verify: bool | None = None,
    overwrite: bool = False,
    push_to_hub: str | None = None,
    private: bool = True,
    tell: Callable[[str], object] = str,
) -> ExportResult:
    """Write the finished run in the folder ``run`` for ``target`` into a new folder.

    ``verify``: load it in its runtime and compare it with the run; by default where the runtime is
    installed. ``tell`` gets a note where it is not. ``push_to_hub``: a repository of the Hub to upload it to,
    which is made where it is not there, ``private`` or not.

    Raises ``PlanError`` where the runtime cannot carry the plan, ``UnsupportedError`` where something is not
    installed, and ``OutputError`` where the folder is taken, the export does not compute what was trained, or
    the Hub does not take it; the folder then stays.
    """
    quiet_libraries()
    from jointsearch.export import hub, model

    folder = Path(output_dir)
    found = model.export_model(
        Path(run), target, folder, verify=verify, overwrite=overwrite, repository=push_to_hub, tell=tell
    )
    url = None if push_to_hub is None else hub.push(folder, push_to_hub, private=private)
    return ExportResult(folder, target, found, url)
