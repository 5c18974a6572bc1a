"""A comparison as texts: the cells of a table for terminals and Markdown, CSV, and JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from jointsearch.front.objectives import format_bytes
from jointsearch.study.analysis.comparison import ComparedPlan, Comparison, is_better


def columns(comparison: Comparison) -> list[str]:
    return [
        "strategy",
        f"{comparison.quality} (mean ± s.e.)",
        f"difference to {comparison.reference} [{comparison.confidence:.0%} interval]",
        "size",
        "bytes/parameter",
        "trained",
        "peak memory",
        "s/epoch",
        "inference/s",
        "stability",
    ]


def cells(comparison: Comparison) -> list[list[str]]:
    """One line for each plan, in the order of the comparison."""
    return [_line(comparison, row) for row in comparison.rows]


def caption(comparison: Comparison) -> str:
    """What the table is of, in a sentence or two."""
    budget = f", at most {format_bytes(comparison.max_bytes)}" if comparison.max_bytes else ""
    return (
        f"{comparison.study}: {comparison.steps} steps a trial, seeds "
        f"{', '.join(map(str, comparison.seeds))}, on {comparison.device or 'no device'}{budget}. "
        "Differences are paired by seed; each interval stands for itself. "
        "* marks an interval that does not hold 0, ^ a plan on the study's front. "
        "What the search has chosen is shown under seeds that did not choose it."
    )


def markdown(comparison: Comparison) -> str:
    head = columns(comparison)
    lines = [head, ["---"] + ["---:"] * (len(head) - 2) + ["---"], *cells(comparison)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return f"{table}\n\n{caption(comparison)}\n"


def json_text(comparison: Comparison) -> str:
    return json.dumps(comparison.model_dump(mode="json"), indent=1) + "\n"


def csv_text(comparison: Comparison) -> str:
    """One line for each plan; the qualities of the seeds are in columns of their own."""
    rows = [_flat(comparison, row) for row in comparison.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _line(comparison: Comparison, row: ComparedPlan) -> list[str]:
    if row.mean is None:
        reasons = "; ".join(dict.fromkeys(row.failures)) or "not measured"
        return [row.name, "-", "-", "-", "-", "-", "-", "-", "-", reasons]
    error = "" if row.standard_error is None else f" ± {row.standard_error:.4f}"
    return [
        f"{row.name}{' ^' if row.on_front else ''}",
        f"{row.mean:.4f}{error}",
        _difference(comparison, row),
        format_bytes(row.model_bytes),
        f"{row.bytes_per_parameter:.3f}",
        f"{row.trainable_share:.2%}",
        format_bytes(row.peak_memory_bytes),
        f"{row.seconds_per_epoch:.1f}",
        f"{row.inference_rate:.1f}",
        _stability(row),
    ]


def _difference(comparison: Comparison, row: ComparedPlan) -> str:
    found = row.difference
    if found is None:
        return "reference" if row.name == comparison.reference else "-"
    if found.low is None:
        return f"{found.mean:+.4f}"
    mark = "" if is_better(comparison, row) is None else " *"
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]{mark}"


def _stability(row: ComparedPlan) -> str:
    notes = [f"gradient ≤ {row.largest_gradient_norm:.3g}"]
    if row.nonfinite_steps:
        notes.append(f"{row.nonfinite_steps} steps not finite")
    if row.loss_spikes:
        notes.append(f"{row.loss_spikes} spikes")
    if row.failures:
        notes.append(f"{len(row.failures)} failed: {'; '.join(dict.fromkeys(row.failures))}")
    return ", ".join(notes)


def _flat(comparison: Comparison, row: ComparedPlan) -> dict[str, Any]:
    difference = row.difference
    values = row.model_dump(exclude={"qualities", "difference", "trials", "failures"})
    return {
        **values,
        "difference": difference.mean if difference else None,
        "difference_low": difference.low if difference else None,
        "difference_high": difference.high if difference else None,
        **{f"{comparison.quality}_seed_{seed}": row.qualities.get(seed) for seed in comparison.seeds},
        "trials": " ".join(map(str, row.trials)),
        "failures": "; ".join(row.failures),
    }
