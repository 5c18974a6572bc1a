"""An export target: a table of modules."""

from pathlib import Path

from jointsearch.export import ExportSource, ExportTarget, register_export_target
from jointsearch.files import write_text


def write(source: ExportSource, output: Path) -> None:
    lines = [f"{name}\t{choice.format}\t{choice.rank}" for name, choice in source.plan.plan.modules.items()]
    write_text(output, "\n".join(lines))


register_export_target(ExportTarget("table", "a table of modules", write))
