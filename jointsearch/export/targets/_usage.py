"""How model cards say that transformers loads a checkpoint, in one place; no target itself."""

from __future__ import annotations


def by_transformers(*imports: str) -> str:
    """In Markdown, as ``ServingTarget.usage`` has it; ``imports``: lines that stand before it."""
    lines = (
        "```python",
        *imports,
        "from transformers import {auto_class}, AutoTokenizer",
        "",
        'model = {auto_class}.from_pretrained("{folder}")',
        'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
        "```",
    )
    return "\n".join(lines)
