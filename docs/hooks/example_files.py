"""Files of the tests that are examples too, as code."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"


def format_in_one_file() -> str:
    """A weight format of another package, which the tests use for real."""
    source = (TESTS / "quantization" / "outside" / "int4_groups.py").read_text(encoding="utf-8")
    return f'```python title="int4_groups.py"\n{source}```'
