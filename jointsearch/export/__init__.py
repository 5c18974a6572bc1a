"""What a plan can be written as: each target is one file that registers itself.

``plan`` is the plan with all that jointsearch needs of it; the others are for what else people train with.
What a finished run can be served by is in ``export.serving``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jointsearch.errors import OutputError, UnsupportedError
from jointsearch.files import make_folder_of
from jointsearch.plan.plan_file import PlanFile
from jointsearch.registry import Registry


@dataclass(frozen=True)
class ExportSource:
    """What there is to write."""

    plan: PlanFile


@dataclass(frozen=True)
class ExportTarget:
    """A form to write a plan in."""

    name: str
    """As ``jointsearch export --to`` has it."""
    description: str
    """What is written, in a few words."""
    write: Callable[[ExportSource, Path], None]
    """Writes to a path, whole or not at all; raises ``PlanError`` where the target cannot have the plan."""
    is_folder: bool = False
    """Whether the path is a folder; its parents are there."""
    limits: Callable[[ExportSource], Sequence[str]] = lambda source: ()
    """What of a plan is lost in this form: what it has instead, a phrase each."""


TARGETS: Registry[ExportTarget] = Registry(
    "export target", folder="jointsearch.export.plans", first=("plan",)
)


def register_export_target(target: ExportTarget) -> ExportTarget:
    """Make a target known by its name, for ``jointsearch export --to``."""
    return TARGETS.register(target)


def export(source: ExportSource, target: str, output: Path, *, overwrite: bool = False) -> None:
    """Write the source to ``output``; raises ``OutputError`` where something is there already."""
    if target not in TARGETS:
        raise UnsupportedError(TARGETS.problem(target))
    chosen = TARGETS[target]
    check_place(output, target, is_folder=chosen.is_folder, overwrite=overwrite)
    make_folder_of(output)
    chosen.write(source, output)


def check_place(output: Path, target: str, *, is_folder: bool, overwrite: bool) -> None:
    """Raise ``OutputError`` unless the target can be written there without losing anything."""
    if output.exists() and output.is_dir() != is_folder:
        wanted, there = ("folder", "file") if is_folder else ("file", "folder")
        raise OutputError(f"{output}: {target} is written to a {wanted}, but this is a {there}; name another")
    is_taken = any(output.iterdir()) if output.is_dir() else output.exists()
    if is_taken and not overwrite:
        raise OutputError(f"{output}: is there already; give --force to overwrite it, or another name")
