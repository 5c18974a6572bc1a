"""What has been measured, as tables: every number is read from a recorded file in ``studies/``.

The rank correlation is Spearman's: Pearson's, of the ranks, where equal values share their mean rank.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import correlation
from typing import Any

from markdown_table import table

STUDIES = Path(__file__).parents[2] / "studies"


def overheads() -> str:
    """``benchmarks/overheads.json``: what the machinery costs beside training."""
    found = read("benchmarks/overheads.json")
    gpt2, minilm, speed = found["preparing_gpt2_101m"], found["preparing_minilm"], found["training_speed"]
    memory, study, start = found["worker_memory"], found["quickstart_study"], found["start_up"]
    rows = [
        (
            f"a trial's model from the bank, GPT-2 of {gpt2['parameters'] / 1e6:.0f} M",
            f"{1e3 * gpt2['bank_seconds']:.1f} ms",
            f"{gpt2['from_pretrained_seconds']:.2f} s to reload and quantize it: "
            f"{gpt2['times_faster']:.0f} times",
        ),
        (
            f"the same, MiniLM of {minilm['parameters'] / 1e6:.0f} M",
            f"{1e3 * minilm['bank_seconds']:.1f} ms",
            f"{minilm['from_pretrained_seconds']:.2f} s: {minilm['times_faster']:.0f} times",
        ),
        (
            "training, tokens per second",
            f"{speed['calibration_tokens_per_second']:.0f}",
            f"{speed['plain_tokens_per_second']:.0f} in a plain loop of PEFT and bitsandbytes: "
            f"{speed['ratio_median']:.2f} times ({speed['ratio_min']:.2f} to {speed['ratio_max']:.2f})",
        ),
        (
            "sampling, storing and assembling a trial of the quickstart",
            f"{study['overhead_seconds_per_trial']:.2f} s",
            f"{study['overhead_share']:.1%} of the trial",
        ),
        (
            "peak memory of a worker, GPT-2",
            f"{memory['peak_bytes'] / 1e9:.2f} GB",
            f"{memory['peak_over_bound']:.2f} of base, formats and one trial together",
        ),
        ("the whole quickstart study", f"{study['command_seconds']:.0f} s", f"{study['trials']} trials"),
        ("`jointsearch --help`", f"{start['help_seconds']:.2f} s", ""),
        ("`jointsearch front`", f"{start['front_seconds']:.2f} s", ""),
    ]
    return table(["what", "measured", "against"], rows)


def memory() -> str:
    """``benchmarks/memory.json``: a search's worker beside a plain fine-tune of its heaviest plan."""
    models = read("benchmarks/memory.json")
    columns = []
    for found in models.values():
        both = found["two_workers_of_nf4"]
        columns.append(
            {
                f"peak of a worker over {found['trials']} mixed trials": _gigabytes(
                    found["worker_peak_growth_bytes"]
                ),
                "peak of a plain run of the heaviest of their plans": _gigabytes(
                    found["plain_peak_growth_bytes"]
                ),
                "**worker over plain**": f"**{found['worker_over_plain']:.3f}**",
                "the worker, with every format in its memory": _gigabytes(
                    found["in_memory_peak_growth_bytes"]
                ),
                "losses with and without the bank on disk": "equal"
                if found["losses_equal_to_in_memory"]
                else "not equal",
                "the bank on disk": _gigabytes(found["bank_bytes"]),
                "making it": f"{found['make_bank_seconds']:.0f} s, "
                f"{_gigabytes(found['make_bank_peak_growth_bytes'])} of memory at the most",
                "opening it again": f"{found['open_bank_seconds']:.1f} s",
                "a trial's model, assembled": f"{found['assemble_seconds_median']:.2f} s, "
                f"{found['assemble_share_median']:.1%} of a trial of {found['steps']} steps",
                "the bank's pages of a worker with the NF4 plan": _gigabytes(both[0]["bank_rss_bytes"]),
                "of two such workers together": _gigabytes(sum(each["bank_pss_bytes"] for each in both)),
            }
        )
    heads = [f"{name}, {found['parameters'] / 1e6:.0f} M" for name, found in models.items()]
    rows = [(what, *(column[what] for column in columns)) for what in columns[0]]
    return table(["what", *heads], rows)


def training_memory() -> str:
    """``benchmarks/training_memory.json``: foretold training memory beside what the allocator has given."""
    cells = read("benchmarks/training_memory.json")["cells"]
    rows = []
    for model in dict.fromkeys(cell["model"] for cell in cells):
        own = [cell for cell in cells if cell["model"] == model]
        ratios = [cell["foretold"] / cell["measured"] for cell in own]
        sizes = dict.fromkeys(f"{cell['batch']} × {cell['length']}" for cell in own)
        rows.append((model, str(len(own)), ", ".join(sizes), f"{min(ratios):.4f} to {max(ratios):.4f}"))
    return table(["model", "cells", "batch × length", "foretold over measured"], rows)


def training_options() -> str:
    """``benchmarks/training_options.json``: what options save of a step's memory."""
    found = read("benchmarks/training_options.json")
    measured = {row["options"]: row for row in found["cpu"]}
    foretold = {row["options"]: row["foretold"] for row in found["cuda"]}
    rows = []
    for name in dict.fromkeys((*measured, *foretold)):
        on_cpu = measured.get(name)
        rows.append(
            (
                name,
                _gigabytes(on_cpu["measured"]) if on_cpu else "",
                _gigabytes(on_cpu["foretold"]) if on_cpu else "",
                _gigabytes(foretold[name]) if name in foretold else "",
            )
        )
    return table(["options", "CPU, measured", "CPU, foretold", "CUDA, foretold"], rows)


def streamed_layers() -> str:
    """``benchmarks/training_options.json``: what streaming saves of a process, and what it costs."""
    found = read("benchmarks/training_options.json")["streamed"]["rows"]
    rows = [
        (
            row["plan"],
            row["options"],
            _gigabytes(row["rss_growth"]),
            _gigabytes(row["foretold"]),
            f"{row['step_cpu_seconds']:.1f} s",
        )
        for row in found
    ]
    return table(["plan", "options", "resident, measured", "foretold", "CPU time of a step"], rows)


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"


def workers() -> str:
    """``benchmarks/workers.json``: what the storage costs, and how far workers on it scale."""
    found = read("benchmarks/workers.json")
    rows: list[tuple[str, Callable[[Any], str]]] = [
        ("storing a trial, 72 parameters", lambda of: f"{of['trial_seconds_72_parameters']:.2f} s"),
        ("storing a trial, 288 parameters", lambda of: f"{of['trial_seconds_288_parameters']:.2f} s"),
        (
            "opening a study of 1000 trials, 72 parameters",
            lambda of: f"{of['opening_seconds_1000_trials_72_parameters']:.1f} s",
        ),
    ]
    rows += [
        (f"throughput of {number} workers, of {number} times one's", _share(number))
        for number in found["sqlite"]["throughput_of_ideal"]
    ]
    return _by_storage(found, rows)


def dashboard() -> str:
    """``benchmarks/dashboard.json``: a study of 1000 trials in the browser."""
    found = read("benchmarks/dashboard.json")
    return _by_storage(
        found,
        [
            ("start of the server", lambda of: f"{of['start_seconds']:.1f} s"),
            ("first view", _answered("first_view")),
            ("refresh with a new trial", _answered("refresh")),
            ("refresh without one", _answered("quiet_refresh")),
            ("all trials", _answered("trials_view")),
            ("refresh of all trials", _answered("trials_refresh")),
            ("the drawn front in Chromium, first", lambda of: f"{of['browser_first_seconds']:.1f} s"),
            ("and again", lambda of: f"{of['browser_again_seconds']:.1f} s"),
            (
                "seconds per trial of a writer, watched against alone",
                lambda of: f"{of['writer_ratio']:.2f} ({_range(of['writer_ratios'])})",
            ),
            ("cores that server and browser keep busy", lambda of: f"{of['viewer_cores']:.2f}"),
        ],
    )


def _answered(what: str) -> Callable[[Any], str]:
    """Seconds at the client and of the server's core, and bytes before they are compressed."""
    return lambda of: (
        f"{of[f'{what}_seconds']:.2f} s ({of[f'{what}_cpu_seconds']:.2f} s of a core), "
        f"{of[f'{what}_bytes'] / 1e3:.0f} kB"
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def foretelling() -> str:
    """``measured/*/results.json``: how trials rank the plans that were also trained in full."""
    rows = []
    for path in sorted((STUDIES / "measured").glob("*/results.json")):
        found = read(path)
        runs = found["full_runs"]
        trials, tests = [run["trial_quality"] for run in runs], [run["test"]["loss"] for run in runs]
        name = f"[{path.parent.name}](../studies/measured/README.md)"
        rows.append((name, str(found["trials"]), str(len(runs)), f"{spearman(trials, tests):.2f}"))
    return table(["study", "trials", "full runs", "rank correlation"], rows, numbers=3)


def read(path: str | Path) -> Any:
    """A JSON file of ``studies/``."""
    return json.loads((STUDIES / path).read_text(encoding="utf-8"))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    return correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def _share(number: str) -> Callable[[Any], str]:
    return lambda of: f"{of['throughput_of_ideal'][number]:.0%}"


def _by_storage(found: Any, rows: Sequence[tuple[str, Callable[[Any], str]]]) -> str:
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    kinds = {name: found[kind] for kind, name in names.items() if kind in found}
    lines = [(what, *(text(of) for of in kinds.values())) for what, text in rows]
    return table(["what", *kinds], lines, numbers=len(kinds))
