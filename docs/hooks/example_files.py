"""Files of the tests that are examples too, as code."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"

FORMAT = TESTS / "quantization" / "outside" / "int4_groups.py"

SEAMS = TESTS / "seams" / "outside"

SHORT = {
    "A training method": TESTS / "training" / "methods" / "outside" / "lora_plus.py",
    "A sampler": SEAMS / "round_robin.py",
    "A strategy": SEAMS / "ends_first.py",
    "A task": SEAMS / "copy_task.py",
    "Objectives": SEAMS / "regret.py",
    "A launcher": SEAMS / "one_by_one.py",
    "An export target": SEAMS / "table_target.py",
    "A serving target": SEAMS / "weights_target.py",
}


def format_in_one_file() -> str:
    """A weight format of another package, which the tests use for real."""
    return _block(FORMAT)


def short_ones() -> str:
    """One file for each of the other kinds."""
    return "\n\n".join(f"### {what}\n\n{_block(path)}" for what, path in SHORT.items())


def _block(path: Path) -> str:
    return f'```python title="{path.name}"\n{path.read_text(encoding="utf-8")}```'
