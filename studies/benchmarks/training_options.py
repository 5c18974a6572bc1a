"""What each option of ``training`` saves of a step's memory.

    python studies/benchmarks/training_options.py -o studies/benchmarks/training_options.json

A shape with Qwen2.5-0.5B's widths and vocabulary and fewer layers, random weights, all NF4 at rank 16, on the
CPU; every row is a process of its own, measured as ``training_memory.py`` measures. What a GPU would take is
foretold, and not measured. Streamed layers (``--streamed``: alone) are measured on SmolLM2-135M's shape,
from a bank on disk: the growth of the process's resident memory from before it has a model, and the CPU
seconds of a step.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from training_memory import SHAPES, config_of, measure, plan_of, status

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

STREAMED_SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
STREAMED_LENGTH = 128
STREAMED_ROWS: dict[str, dict[str, Any]] = {
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "gradient_checkpointing, stream_layers": {"gradient_checkpointing": True, "stream_layers": True},
}


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


def measure_streamed(folder: str, name: str, training: dict[str, Any]) -> dict[str, Any]:
    """Two steps of a trial's model, in this process; ``folder`` has a checkpoint."""
    import torch

    from jointsearch.assemble import read_layout
    from jointsearch.plan.memory import training_memory
    from jointsearch.space import build_space
    from jointsearch.training.memory.batches import example_batch
    from jointsearch.training.memory.profile import memory_profile
    from jointsearch.training.model.setup import build_optimizer, forward_pass
    from jointsearch.training.model.trial_model import TrialModels
    from jointsearch.training.quiet import quiet_libraries

    quiet_libraries()
    config = config_of(folder, 1, STREAMED_LENGTH, training)
    layout = read_layout(config)
    plan = plan_of(build_space(config, layout), name)
    found = memory_profile(config, layout, "cpu")
    foretold = None if found is None else training_memory(found, layout, plan)
    assert foretold is not None
    TrialModels(config, layout, torch.device("cpu"))  # makes the bank, where it is not there
    gc.collect()
    before = status("VmRSS")
    models = TrialModels(config, layout, torch.device("cpu"))
    model: Any = models.assemble(plan, 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_optimizer([{"params": trained}], config.training, 1e-3, 0.0)
    batch = example_batch(config.task, {"input_ids": STREAMED_LENGTH}, 1)
    losses, seconds = [], 0.0
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        start = time.process_time()
        with forward_pass(model.train(), config.training):
            loss = model(**batch).loss
        loss.backward()
        losses.append(loss.item())
        del loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.process_time() - start
    return {
        "foretold": foretold.total_bytes,
        "rss_growth": status("VmHWM") - before,
        "step_cpu_seconds": round(seconds, 2),
        "losses": losses,
    }


def run_streamed(threads: str) -> dict[str, Any]:
    """What streaming saves of each plan."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        shape = {key: value for key, value in STREAMED_SHAPE.items() if key != "model_type"}
        made = AutoConfig.for_model(STREAMED_SHAPE["model_type"], **shape)
        AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16).save_pretrained(f"{folder}/model")
        for plan in ("16bit r16", "nf4 r16"):
            for options in STREAMED_ROWS:
                done = subprocess.run(
                    [
                        sys.executable,
                        __file__,
                        "--row",
                        options,
                        "--plan",
                        plan,
                        "--folder",
                        f"{folder}/model",
                    ],
                    env={
                        **os.environ,
                        "MALLOC_MMAP_THRESHOLD_": "65536",
                        "JOINTSEARCH_CACHE": f"{folder}/cache",
                    },
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                rows.append({"plan": plan, "options": options, **json.loads(done.stdout.splitlines()[-1])})
                print(rows[-1], flush=True)
    hardware = f"CPU ({platform.machine()}), {threads} threads"
    return {"hardware": hardware, "length": STREAMED_LENGTH, "rows": rows}


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
        "streamed": run_streamed(threads),
    }
    output.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--row")
    parser.add_argument("--folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plan")
    parser.add_argument(
        "--streamed", action="store_true", help="measure streamed layers anew, and them alone"
    )
    given = parser.parse_args()
    if given.streamed:
        known = json.loads(given.output.read_text())
        known["streamed"] = run_streamed(os.environ.get("OMP_NUM_THREADS", "all"))
        given.output.write_text(json.dumps(known, indent=1) + "\n")
    elif given.row is None:
        run(given.output)
    elif given.plan:
        print(json.dumps(measure_streamed(given.folder, given.plan, STREAMED_ROWS[given.row])))
    elif given.device == "cuda":
        print(json.dumps(foretell(given.folder, CUDA_ROWS[given.row])))
    else:
        print(json.dumps(measure(given.folder, BATCH_SIZE, LENGTH, PLAN, ROWS[given.row])))


if __name__ == "__main__":
    main()
