"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """A table whose last ``numbers`` columns are aligned to the right."""
    rules = ["---"] * (len(columns) - numbers) + ["---:"] * numbers
    lines = [columns, rules, *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """A text on one line, without what would end a cell or begin a tag; code is left as it is."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(parts))


def code(text: str) -> str:
    """A text as code, in a line."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
