"""Files and functions that one can read at a sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import jointsearch

ROOT = Path(jointsearch.__file__).parent
MAX_LINES_OF_A_FILE = 300
MAX_LINES_OF_A_FUNCTION = 60


def long_functions(source: str) -> list[str]:
    """Name and lines of the functions that are too long, decorators left out."""
    functions = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    return [f"{name}: {lines}" for name, lines in lengths.items() if lines > MAX_LINES_OF_A_FUNCTION]


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    assert len(lengths) > 100
    long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES_OF_A_FILE}
    assert long == {}


def test_no_function_is_long() -> None:
    found = {
        str(path.relative_to(ROOT)): long
        for path in ROOT.rglob("*.py")
        if (long := long_functions(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_long_function_would_be_found() -> None:
    body = "\n".join("    x = 1" for _ in range(MAX_LINES_OF_A_FUNCTION))
    assert long_functions(f"def f():\n{body}\n") == ["f: 61"]
    assert long_functions("def f():\n    x = 1\n") == []
