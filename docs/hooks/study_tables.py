"""The ready study files with the question that each opens with, and the named strategies with their rules."""

from __future__ import annotations

from pathlib import Path

from markdown_table import code, table

STUDIES = Path(__file__).parents[2] / "studies"


def ready_study_files() -> str:
    """File and question, for a page in ``docs/``."""
    rows = [
        (
            f"[{path.stem}](../studies/{path.name})",
            path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "),
        )
        for path in sorted(STUDIES.glob("*.yaml"))
    ]
    return table(["file", "what it asks"], rows)


def all_strategies() -> str:
    """Name, rule, and what has to be measured before."""
    from jointsearch.strategies.registry import STRATEGIES

    needs = {"nothing": "nothing", "sensitivities": "a probe of the model", "adalora": "a run of AdaLoRA"}
    rows = [
        (code(name), strategy.description, needs[strategy.needs]) for name, strategy in STRATEGIES.items()
    ]
    return table(["strategy", "rule", "measured before"], rows)
