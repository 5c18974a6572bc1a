"""Runs all families and writes what became of them, for the test and for the docs.

    PYTHONPATH=tests python -m families.record

writes ``tests/families/recorded.json`` and ``docs/families.md``.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from families.whole_study import run
from families.zoo import FAMILIES

RECORDED = Path(__file__).with_name("recorded.json")
PAGE = Path(__file__).parents[2] / "docs" / "families.md"

HEAD = """# Model families

Each of these families has gone through a whole study at tiny size, with random weights: the layout, three
trials at 4 and 8 bits, a full run, and loading back in stock transformers and PEFT with an equal loss. What
stays at 16 bits, or has no adapter, is named, as `jointsearch doctor --model ID` and `study start` name it.
The share is that of the tiny model; of a real one `doctor` says it. The page is made by
`python -m families.record` in `tests/`.

| family | task | searched weights | what is named |
|---|---|---:|---|
"""


def main() -> None:
    found = {}
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = {"task": family.task, **asdict(run(name, family, Path(folder)))}
        print(name, found[name]["searched_share"], flush=True)
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(found))


def page(found: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, outcome in found.items():
        named = "; ".join(note for note in outcome["notes"] if not note.startswith("the search reaches"))
        rows.append(
            f"| {name} | {outcome['task']} | {outcome['searched_share']:.0%} | {named or 'nothing'} |"
        )
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
