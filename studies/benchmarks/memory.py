"""Measures what memory a search takes beside the fine-tuning that it searches for.

    python studies/benchmarks/memory.py [gpt2] [qwen2.5-0.5b] [FOLDER …] [--trials N] [--output FILE]

A model is a shape with random weights and the quickstart's tokenizer, or a folder with a model; on a CPU. One
worker runs mixed plans; a process of its own then runs the heaviest of them alone, as a person would with
PEFT and bitsandbytes: loaded, quantized, adapted, trained and measured once. What both hold after imports
is taken off their peaks. Prints the figures and writes them, with the hardware, as JSON, beside those of
the other models that the file has. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from jointsearch.training.quiet import quiet_libraries

quiet_libraries()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, Qwen2Config  # noqa: E402

from jointsearch.assemble import EMBEDDED  # noqa: E402
from jointsearch.config.study import StudyConfig  # noqa: E402
from jointsearch.config.yaml_file import read_study  # noqa: E402
from jointsearch.plan.layout import ModelLayout  # noqa: E402
from jointsearch.plan.plan import Plan  # noqa: E402
from jointsearch.quantization.plugin import JointSearchConfig  # noqa: E402
from jointsearch.runner import Trial  # noqa: E402
from jointsearch.space import SearchSpace  # noqa: E402
from jointsearch.training.calibration import CalibrationRunner  # noqa: E402
from jointsearch.training.device import library_versions  # noqa: E402
from jointsearch.training.loop import Clock, TrainingLoop  # noqa: E402
from jointsearch.training.methods.base import Adaptation, method_of  # noqa: E402
from jointsearch.training.model.architecture import read_layout  # noqa: E402
from jointsearch.training.model.base_model import load_base, load_config, load_quantized  # noqa: E402
from jointsearch.training.model.trial_model import TrialModels  # noqa: E402
from jointsearch.training.tasks import build_task  # noqa: E402

CPU = torch.device("cpu")

STUDY: dict[str, Any] = {
    "name": "memory",
    "task": {"type": "causal-lm", "data": {"package": "click"}, "sequence_length": 64},
    "search_space": {"ranks": [0, 4, 16]},
    "calibration": {"steps": 3, "batch_size": 2, "validation_examples": 8, "warmup_steps": 1},
    "device": "cpu",
}


SHAPES = {
    "gpt2": GPT2Config(bos_token_id=0, eos_token_id=0),
    "qwen2.5-0.5b": Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
}


def make(shape: str, folder: Path) -> None:
    """A model of this shape with random bfloat16 weights, and the quickstart's tokenizer."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(SHAPES[shape], dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED["quickstart"].parent / "model").save_pretrained(folder)


def memory_bytes(field: str) -> int:
    """VmRSS, what this process holds, or VmHWM, the most that it has held."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def mapped_bank_bytes(field: str) -> int:
    """Rss or Pss (each page over the number of its holders) of the bank's files that are mapped here."""
    total, is_bank = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.partition(" ")[0]:
            is_bank = "/banks/" in line
        elif is_bank and line.startswith(f"{field}:"):
            total += int(line.split()[1]) * 1024
    return total


def read(study: Path) -> tuple[StudyConfig, ModelLayout, list[Plan]]:
    config = read_study(study)
    layout = read_layout(config.model, config.task.type)
    space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
    chance = random.Random(0)
    plans = [space.plan(space.uniform("16bit", 16)), space.plan(space.uniform("nf4", 4))]
    return config, layout, plans + [space.plan(space.sample(chance)) for _ in range(100)]


def worker(study: Path, trials: int, hold: Path | None = None) -> dict[str, Any]:
    """Opens the bank and runs mixed plans; with ``hold`` it then waits until that file is there."""
    imported = memory_bytes("VmRSS")
    config, layout, plans = read(study)
    lines: list[str] = []
    begun = time.perf_counter()
    runner = CalibrationRunner(config, layout, lines.append)
    opened = time.perf_counter() - begun
    opened_peak = memory_bytes("VmHWM")
    runs = [runner.run(plan, Trial(seed=0)) for plan in plans[:trials]]
    return {
        "imported_bytes": imported,
        "open_seconds": opened,
        "open_peak_bytes": opened_peak,
        "lines": lines,
        "peak_bytes": [run.peak_memory_bytes for run in runs],
        "losses": [run.metrics["loss"] for run in runs],
        "assemble_seconds": [run.seconds["assemble"] for run in runs],
        "trial_seconds": [sum(run.seconds.values()) for run in runs],
    }


def together(study: Path, go: Path) -> dict[str, Any]:
    """The NF4 plan's model, held until ``go`` is there: what two such processes share."""
    config, layout, plans = read(study)
    models = TrialModels(config, layout, CPU)
    model = models.assemble(plans[1], seed=0)
    model(torch.arange(32).view(1, 32))
    models.make_room(plans[1])
    print("ready", flush=True)
    while not go.exists():
        time.sleep(0.05)
    return {f"bank_{field.lower()}_bytes": mapped_bank_bytes(field) for field in ("Rss", "Pss")}


def plain(study: Path, number: int) -> dict[str, Any]:
    """One plan alone: loaded and quantized by transformers, adapted by PEFT, trained and measured."""
    imported = memory_bytes("VmRSS")
    config, layout, plans = read(study)
    plan = plans[number]
    model = load_quantized(config.model, config.task.type, JointSearchConfig.of(plan, layout), CPU)
    method = method_of(plan.lora)
    wanted = Adaptation(plan, layout, config.task.type, config.calibration.steps, 0)
    model = method.attach(model, wanted, method.starts(model, wanted))
    task = build_task(config, load_config(config.model))
    TrainingLoop(model, task, config.at(None, None), method).run(Trial(seed=0), Clock())
    found = task.evaluate(
        model, "validation", config.calibration.validation_examples, config.calibration.batch_size
    )
    return {"imported_bytes": imported, "peak_bytes": memory_bytes("VmHWM"), "loss": found.metrics["loss"]}


def in_memory(study: Path, trials: int) -> dict[str, Any]:
    """The same trials with all weights of all formats in this process, as without a bank on disk."""
    imported = memory_bytes("VmRSS")
    config, layout, plans = read(study)
    runner = CalibrationRunner(config, layout)
    base = load_base(config.model, config.task.type, layout.dtype, CPU)
    runner.models = TrialModels(config, layout, CPU, base)
    runs = [runner.run(plan, Trial(seed=0)) for plan in plans[:trials]]
    return {
        "imported_bytes": imported,
        "losses": [run.metrics["loss"] for run in runs],
        "peak_bytes": [run.peak_memory_bytes for run in runs],
    }


def own_process(*words: object, **environment: str) -> dict[str, Any]:
    """What a process of its own has measured; its last line is JSON."""
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, **environment})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def two_together(study: Path, folder: Path) -> list[dict[str, Any]]:
    go = folder / "go"
    command = [sys.executable, __file__, "--together", str(study), str(go)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
    go.touch()
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in both]


def measure(model: str, trials: int, folder: Path) -> dict[str, Any]:
    os.environ["JOINTSEARCH_CACHE"] = str(folder / "cache")
    if model in SHAPES:
        make(model, folder / "model")
    weights = str(folder / "model") if model in SHAPES else model
    study = folder / "memory.yaml"
    study.write_text(yaml.safe_dump({**STUDY, "model": {"id": weights}}), encoding="utf-8")
    made = own_process("--worker", study, 1)
    found = own_process("--worker", study, trials)
    heaviest = max(range(trials), key=lambda number: found["peak_bytes"][number])
    alone = own_process("--plain", study, heaviest)
    before = own_process("--in-memory", study, trials)
    worker_growth = max(found["peak_bytes"]) - found["imported_bytes"]
    plain_growth = alone["peak_bytes"] - alone["imported_bytes"]
    return {
        "parameters": read(study)[1].num_parameters,
        "trials": trials,
        "steps": STUDY["calibration"]["steps"],
        "worker_peak_growth_bytes": worker_growth,
        "plain_peak_growth_bytes": plain_growth,
        "worker_over_plain": worker_growth / plain_growth,
        "in_memory_peak_growth_bytes": max(before["peak_bytes"]) - before["imported_bytes"],
        "losses_equal_to_in_memory": found["losses"] == before["losses"],
        "loss_equal_to_plain": found["losses"][heaviest] == alone["loss"],
        "bank_bytes": sum(file.stat().st_size for file in (folder / "cache").rglob("*.safetensors")),
        "make_bank_seconds": made["open_seconds"],
        "make_bank_peak_growth_bytes": made["open_peak_bytes"] - made["imported_bytes"],
        "open_bank_seconds": found["open_seconds"],
        "assemble_seconds_median": statistics.median(found["assemble_seconds"][1:]),
        "assemble_share_median": statistics.median(
            assemble / trial
            for assemble, trial in zip(found["assemble_seconds"][1:], found["trial_seconds"][1:], strict=True)
        ),
        "two_workers_of_nf4": two_together(study, folder),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(SHAPES)}, or a folder")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    for mode in ("worker", "plain", "in-memory", "together"):
        parser.add_argument(f"--{mode}", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for mode, run in (("worker", worker), ("plain", plain), ("in_memory", in_memory)):
        if words := getattr(given, mode):
            print(json.dumps(run(Path(words[0]), int(words[1]))))
            return
    if given.together:
        print(json.dumps(together(Path(given.together[0]), Path(given.together[1]))))
        return
    models = json.loads(given.output.read_text(encoding="utf-8")) if given.output.exists() else {}
    for model in given.models or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            models[Path(model).name] = {
                "cpu": cpu(),
                "threads": torch.get_num_threads(),
                "load": os.getloadavg()[1],
                "versions": {"python": platform.python_version(), **library_versions()},
                **measure(model, given.trials, Path(folder)),
            }
        text = json.dumps(models, indent=1)
        given.output.write_text(f"{text}\n", encoding="utf-8")
    print(text)


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
