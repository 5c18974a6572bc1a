"""What each option of ``training`` saves of a step's memory.

    python studies/benchmarks/training_options.py -o studies/benchmarks/training_options.json

A shape with Qwen2.5-0.5B's widths and vocabulary and fewer layers, random weights, all NF4 at rank 16, on the
CPU; every row is a process of its own, measured as ``training_memory.py`` measures. What a GPU would take is
foretold, and not measured.
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

from training_memory import SHAPES, config_of, measure, plan_of

SHAPE = SHAPES["qwen2.5-0.5b"] | {"num_hidden_layers": 6}
BATCH_SIZE, LENGTH, PLAN = 2, 512, "nf4 r16"
ROWS: dict[str, dict[str, Any]] = {
    "none": {"chunked_loss": False},
    "chunked_loss": {},
    "gradient_checkpointing": {"chunked_loss": False, "gradient_checkpointing": True},
    "chunked_loss, gradient_checkpointing": {"gradient_checkpointing": True},
}

CUDA_ROWS: dict[str, dict[str, Any]] = {
    "none": {"chunked_loss": False},
    "chunked_loss": {},
    "chunked_loss, gradient_checkpointing": {"gradient_checkpointing": True},
    "chunked_loss, offload_activations": {"offload_activations": True},
}
"""Foretold alone."""


def foretell(folder: str, training: dict[str, Any]) -> dict[str, Any]:
    """What a GPU would take of the same plan."""
    from jointsearch.assemble import read_layout
    from jointsearch.plan.memory import training_memory
    from jointsearch.space import build_space
    from jointsearch.training.memory.profile import memory_profile
    from jointsearch.training.quiet import quiet_libraries

    quiet_libraries()
    config = config_of(folder, BATCH_SIZE, LENGTH, training)
    layout = read_layout(config)
    plan = plan_of(build_space(config, layout), PLAN)
    found = memory_profile(config, layout, "cuda")
    taken = None if found is None else training_memory(found, layout, plan)
    assert taken is not None
    return {"foretold": taken.total_bytes}


def run(output: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {"cpu": [], "cuda": []}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPE))
        for device, name in [*(("cpu", name) for name in ROWS), *(("cuda", name) for name in CUDA_ROWS)]:
            done = subprocess.run(
                [sys.executable, __file__, "--row", name, "--device", device, "--folder", folder],
                env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rows[device].append({"options": name, **json.loads(done.stdout.splitlines()[-1])})
            print(device, rows[device][-1], flush=True)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    found = {
        "hardware": f"CPU ({platform.machine()}), {threads} threads",
        "batch": BATCH_SIZE,
        "length": LENGTH,
        **rows,
    }
    output.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--row")
    parser.add_argument("--folder")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.row is None:
        run(given.output)
    elif given.device == "cuda":
        print(json.dumps(foretell(given.folder, CUDA_ROWS[given.row])))
    else:
        print(json.dumps(measure(given.folder, BATCH_SIZE, LENGTH, PLAN, ROWS[given.row])))


if __name__ == "__main__":
    main()
