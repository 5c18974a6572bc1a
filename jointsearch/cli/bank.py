"""``jointsearch bank``: the quantized weights that workers of this machine share."""

from __future__ import annotations

from dataclasses import asdict

import click

from jointsearch.banks import Bank, banks_folder, clear_banks, stored_banks
from jointsearch.cli.options import format_option
from jointsearch.cli.tables import print_json, print_table
from jointsearch.cli.telling import tell
from jointsearch.errors import visible
from jointsearch.front.objectives import format_bytes


@click.command("list")
@format_option("table", "json")
def list_banks(output_format: str) -> None:
    """List this machine's banks of quantized weights.

    They are in the folder ``banks`` of JOINTSEARCH_CACHE, or of ~/.cache/jointsearch.

    \b
    Example:
      jointsearch bank list --format json
    """
    banks = stored_banks()
    if output_format == "json":
        print_json([asdict(bank) for bank in banks])
        return
    if not banks:
        tell(f"no bank in {banks_folder()}")
        return
    rows = [
        [bank.name, bank.model or "?", format_bytes(bank.num_bytes), "yes" if bank.is_whole else "no"]
        for bank in banks
    ]
    print_table(["name", "model", "size", "whole"], rows, drop=("model",))


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(names: tuple[str, ...], yes: bool) -> None:
    """Delete banks; workers make them again.

    All of them, or those that are named. Workers that use one go on.

    \b
    Example:
      jointsearch bank clear
      jointsearch bank clear gpt2-0123456789abcdef --yes
    """
    banks = [bank for bank in stored_banks() if not names or bank.name in names]
    if len(banks) >= len(set(names)) and banks and not yes:
        click.confirm(visible(f"Delete {_said(banks)}?"), abort=True, err=True)
    tell(f"deleted {_said(clear_banks(names))}")


def _said(banks: list[Bank]) -> str:
    few = "1 bank" if len(banks) == 1 else f"{len(banks)} banks"
    return f"{few} of {format_bytes(sum(bank.num_bytes for bank in banks))}"
