"""``jointsearch plan show``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from jointsearch.cli.options import format_option
from jointsearch.cli.suggestions import plan_files
from jointsearch.cli.tables import print_json, print_table
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.plan_file import PlanFile, read_plan


@click.command()
@click.argument("file", type=click.Path(path_type=Path), shell_complete=plan_files)
@format_option("table", "json")
def show(file: Path, output_format: str) -> None:
    """Show a plan's bits and ranks, block by block, and its bytes.

    \b
    Example:
      jointsearch plan show plan.json
      jointsearch plan show plan.json --format json
    """
    content = read_plan(file)
    if output_format == "json":
        modules = content.plan.model_dump(mode="json")["modules"]
        print_json(
            {
                "digest": content.digest,
                "model": content.study.model.id,
                "task": content.study.task.type,
                **content.cost.as_dict(),
                **(content.origin.memory if content.origin else {}),
                "modules": modules,
                "left_out": content.layout.left_out,
            }
        )
    else:
        _print(content)


def _print(content: PlanFile) -> None:
    cost, origin = content.cost, content.origin
    cells: defaultdict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for spec in content.layout.modules:
        choice = content.plan.modules[spec.name]
        text = f"{choice.bits} bit" + (f" r{choice.rank}" if choice.rank else "")
        cells[spec.block or "(no block)"][spec.part.value].append(text)
    parts = list(dict.fromkeys(part for block in cells.values() for part in block))
    rows = [[block, *(_summary(by_part.get(part, [])) for part in parts)] for block, by_part in cells.items()]
    print_table(["block", *parts], rows, title=f"{content.study.model.id}: bits and LoRA rank")
    facts: dict[str, Any] = {
        "model bytes": f"{format_bytes(cost.model_bytes)} ({cost.model_bytes})",
        "of which adapter": f"{format_bytes(cost.adapter_bytes)} ({cost.adapter_bytes})",
        **{f"  {part}": format_bytes(size) for part, size in cost.bytes_by_part.items()},
        "bits per weight": f"{cost.bits_per_weight:.3f}",
        "trainable parameters": f"{cost.trainable_parameters} ({cost.trainable_share:.2%})",
    }
    if content.plan.learning_rate is not None:
        facts["learning rate"] = f"{content.plan.learning_rate:g}"
    if origin:
        facts |= {name.replace("_", " "): format_bytes(size) for name, size in origin.memory.items()}
        facts["from"] = f"study '{origin.study}', trial {origin.trial}" + (
            f" ({origin.label})" if origin.label else ""
        )
    for name, reason in content.layout.left_out.items():
        facts[f"left at 16 bits: {name}"] = reason
    print_table(["", ""], [[name, str(value)] for name, value in facts.items()])


def _summary(texts: list[str]) -> str:
    """One text if all modules agree, else each different one."""
    return " | ".join(dict.fromkeys(texts)) or "-"
