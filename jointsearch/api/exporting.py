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


def export_model(
    run: str | PathLike[str],
    target: str,
    output_dir: str | PathLike[str],
    *,
    verify: bool | None = None,
    overwrite: bool = False,
    tell: Callable[[str], object] = str,
) -> ExportResult:
    """Write the finished run in the folder ``run`` for ``target`` into a new folder.

    ``verify``: load it in its runtime and compare it with the run; by default where the runtime is
    installed. ``tell`` gets a note where it is not. Raises ``PlanError`` where the runtime cannot carry the
    plan, ``UnsupportedError`` where something is not installed, and ``OutputError`` where the folder is taken
    or the export does not compute what was trained.
    """
    quiet_libraries()
    from jointsearch.export import model

    folder = Path(output_dir)
    found = model.export_model(Path(run), target, folder, verify=verify, overwrite=overwrite, tell=tell)
    return ExportResult(folder, target, found)
