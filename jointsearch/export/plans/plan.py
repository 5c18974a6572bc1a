"""``plan``: ``plan.json``, which ``jointsearch train`` trains."""

from __future__ import annotations

from pathlib import Path

from jointsearch.export import ExportSource, ExportTarget, register_export_target
from jointsearch.plan.plan_file import write_plan


def write(source: ExportSource, output: Path) -> None:
    write_plan(source.plan, output)


register_export_target(ExportTarget("plan", "a file that jointsearch trains and loads", write))
