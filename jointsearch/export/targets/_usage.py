"""How model cards say that a runtime loads what was written, in one place; no target itself."""

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


def by_llama_cpp(files: str) -> str:
    """In Markdown likewise; ``files``: those that llama.cpp's programs are given."""
    return f"""\
```
llama-cli {files}
llama-server {files}
```

With Ollama:

```
ollama create {{folder}} -f {{folder}}/Modelfile
ollama run {{folder}}
```
"""
