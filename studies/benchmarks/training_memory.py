"""Foretold training memory against measured, over 24 cells of model, batch, length and plan.

    python studies/benchmarks/training_memory.py -o studies/benchmarks/training_memory.json --stories FOLDER

Every cell is a process of its own on the CPU. What a plan holds is counted from its state dict and its
optimizer's states; what a step adds is the peak of torch's allocator, which the profiler notes byte by byte,
and beside it the growth of the process's resident memory (large blocks are given back at once:
MALLOC_MMAP_THRESHOLD_). GPT-2 and Qwen2.5-0.5B are shapes with random weights; STORIES is a checkpoint of
stories260K.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
}
CELLS = [
    *(
        ("stories260k", b, n, p)
        for b, n in ((1, 64), (8, 128), (4, 512))
        for p in ("nf4 r4", "int8 r16", "random")
    ),
    *(("gpt2", b, n, p) for b, n in ((1, 64), (2, 256), (1, 1024)) for p in ("nf4 r4", "int8 r16", "random")),
    *(("qwen2.5-0.5b", b, n, p) for b, n in ((1, 64), (1, 512)) for p in ("nf4 r16", "16bit r4", "random")),
]


def config_of(model: str, batch_size: int, length: int, training: dict[str, Any]) -> Any:
    from jointsearch.config.study import StudyConfig

    return StudyConfig.model_validate(
        {
            "name": "memory",
            "model": {"id": model},
            "task": {"type": "causal-lm", "data": {"package": "transformers"}, "sequence_length": length},
            "search_space": {"ranks": [0, 4, 16]},
            "calibration": {"batch_size": batch_size, "learning_rate": 1e-3},
            "training": training,
        }
    )


def plan_of(space: Any, name: str) -> Any:
    if name == "random":
        return space.plan(space.sample(random.Random(0)))
    weight_format, rank = name.split()
    return space.plan(space.uniform(weight_format, int(rank[1:])))


def measure(
    model: str, batch_size: int, length: int, name: str, training: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One cell, in this process."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from jointsearch.assemble import read_layout
    from jointsearch.plan.memory import training_memory
    from jointsearch.space import build_space
    from jointsearch.training.memory.batches import example_batch
    from jointsearch.training.memory.profile import memory_profile
    from jointsearch.training.model.architecture import load_config, model_class
    from jointsearch.training.model.base_model import load_base
    from jointsearch.training.model.deferred_logits import deferred_logits
    from jointsearch.training.model.setup import build_optimizer
    from jointsearch.training.model.trial_model import TrialModels
    from jointsearch.training.quiet import quiet_libraries

    quiet_libraries()
    config = config_of(model, batch_size, length, training or {})
    layout = read_layout(config)
    space = build_space(config, layout)
    plan = plan_of(space, name)
    start = time.perf_counter()
    found = memory_profile(config, layout, "cpu")
    seconds = time.perf_counter() - start
    foretold = training_memory(found, layout, plan)

    cpu = torch.device("cpu")
    if any(Path(model).glob("*.safetensors")):
        base = load_base(config.model, "causal-lm", layout.dtype, cpu)
    else:
        base = model_class("causal-lm").from_config(load_config(config.model), dtype=torch.float32)
        base.config.use_cache = False
    trial = TrialModels(config, layout, cpu, base).assemble(plan, 0)
    trained = [p for p in trial.parameters() if p.requires_grad]
    optimizer = build_optimizer([{"params": trained}], config.training, 1e-3, 0.0)
    batch = example_batch(config.task, found.lengths, batch_size)
    trial.train()

    def step() -> None:
        with deferred_logits(trial, config.training.chunked_loss):
            loss = trial(**batch).loss
        loss.backward()
        del loss  # what its graph still holds
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    tensors = {t.data_ptr(): t for key, t in trial.state_dict().items() if "bitsandbytes__" not in key}
    tensors |= {t.data_ptr(): t for t in trial.buffers()}
    held = sum(t.untyped_storage().nbytes() for t in tensors.values())
    held += sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    start = time.perf_counter()
    step()
    step_seconds = time.perf_counter() - start
    rss = status("VmHWM") - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    lives = peak = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        lives += event.nbytes()
        peak = max(peak, lives)
    return {
        "foretold": foretold.total_bytes,
        "measured": held + peak,
        "foretold_step": foretold.gradient_bytes + foretold.activation_bytes,
        "measured_step": peak,
        "rss_growth": rss,
        "seconds_to_foretell": round(seconds, 2),
        "step_seconds": round(step_seconds, 2),
    }


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def run(output: Path, stories: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, values in SHAPES.items():
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "config.json").write_text(json.dumps(values))
        rows = []
        for model, batch_size, length, plan in CELLS:
            source = stories if model == "stories260k" else Path(folder) / model
            words = [
                sys.executable,
                __file__,
                "--cell",
                str(source.resolve()),
                str(batch_size),
                str(length),
                plan,
            ]
            done = subprocess.run(
                words,
                env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                print(done.stderr[-2000:], file=sys.stderr)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"model": model, "batch": batch_size, "length": length, "plan": plan, **found})
            ratio = found["foretold"] / found["measured"]
            print(f"{model} {batch_size} x {length} {plan}: {found['foretold']} {ratio:.4f}", flush=True)
            threads = os.environ.get("OMP_NUM_THREADS", "all")
            hardware = f"CPU ({platform.machine()}), {threads} threads"
            output.write_text(json.dumps({"hardware": hardware, "cells": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", nargs=4)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--stories", type=Path)
    given = parser.parse_args()
    if given.cell:
        source, batch_size, length, plan = given.cell
        print(json.dumps(measure(source, int(batch_size), int(length), plan)))
    else:
        run(given.output, given.stories)


if __name__ == "__main__":
    main()
