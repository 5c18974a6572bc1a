"""What each option of ``training`` saves of a step's memory, what it costs in time, and that the loss stays.

    python studies/benchmarks/training_options.py -o studies/benchmarks/training_options.json

A shape with Qwen2.5-0.5B's widths and vocabulary and fewer layers, random weights, all NF4 at rank 16, on the
CPU; every row is a process of its own, measured as ``training_memory.py`` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from training_memory import SHAPES, measure

SHAPE = SHAPES["qwen2.5-0.5b"] | {"num_hidden_layers": 6}
BATCH_SIZE, LENGTH = 2, 512
ROWS: dict[str, dict[str, Any]] = {
    "none": {"chunked_loss": False},
    "chunked_loss": {},
    "gradient_checkpointing": {"chunked_loss": False, "gradient_checkpointing": True},
    "chunked_loss, gradient_checkpointing": {"gradient_checkpointing": True},
}


def run(output: Path) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPE))
        for name in ROWS:
            done = subprocess.run(
                [sys.executable, __file__, "--row", name, "--folder", folder],
                env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rows.append({"options": name, **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1], flush=True)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    found = {
        "hardware": f"CPU ({platform.machine()}), {threads} threads",
        "batch": BATCH_SIZE,
        "length": LENGTH,
        "rows": rows,
    }
    output.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--row")
    parser.add_argument("--folder")
    given = parser.parse_args()
    if given.row is None:
        run(given.output)
    else:
        print(json.dumps(measure(given.folder, BATCH_SIZE, LENGTH, "nf4 r16", ROWS[given.row])))


if __name__ == "__main__":
    main()
