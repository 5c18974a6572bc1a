"""Whether what was exported is what was trained, by the runtime that will serve it.

The same validation examples go through the export in its runtime, through the model that it is expected to
be, and through the run as it was evaluated. Where the task is language modelling, greedy continuations are
compared too.

An export must equal what is expected, within its target's tolerance. Its difference from the run says what
the target itself changes, such as weights that are rounded, or formats that are left out.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jointsearch.errors import OutputError
from jointsearch.export.finished_run import FinishedRun
from jointsearch.export.serving import ServingTarget
from jointsearch.plan.record import Record
from jointsearch.training.tasks.base import IGNORED, Batch, evaluating

NUM_EXAMPLES = 8
NUM_PROMPTS = 20
PROMPT_TOKENS = 16
NEW_TOKENS = 16


class Difference(Record):
    """Between an export's logits and those of another model."""

    largest: float
    """The largest of one logit."""
    relative: float
    """The same as a part of the other model's largest logit."""
    same_continuations: int | None = None
    """Prompts that are continued alike; None where nothing is written."""


class Verification(Record):
    """What was measured on the first validation examples."""

    target: str
    plan: str
    """Its digest."""
    versions: dict[str, str]
    """Of what has loaded the export."""
    num_examples: int
    num_prompts: int
    """Of which each was continued by ``NEW_TOKENS`` tokens; 0 where nothing is written."""
    expected: Difference
    """From what the export is meant to compute."""
    tolerance: float
    """What ``expected.relative`` is allowed."""
    rounding: Difference | None = None
    """Of the export as it is served from the same weights where the runtime rounds nothing while it
    multiplies, which is then what ``expected`` is about; None where it never does."""
    run: Difference
    """From the run as it was evaluated."""
    loss: float
    run_loss: float

    @property
    def holds(self) -> bool:
        return self.expected.relative <= self.tolerance


def verified(run: FinishedRun, target: ServingTarget, folder: Path) -> Verification:
    """The figures of the export in ``folder``; raises ``OutputError`` where it is not what is expected."""
    task = run.task
    num_examples = min(NUM_EXAMPLES, task.num_examples("validation"))
    batch = task.batch("validation", list(range(num_examples)))
    prompts = _prompts(run)

    def answers(model: nn.Module) -> _Answers:
        loss = task.loss(model, "validation", num_examples, num_examples)
        return _Answers(model, batch, prompts, loss)

    # one after another: there may not be room for all
    of_run, expected = answers(run.model), answers(target.expected(run))
    found = answers(target.load(folder, run))
    other = target.load_unrounded(folder, run)
    unrounded = found if other is None else answers(other)
    result = Verification(
        target=target.name,
        plan=run.plan.digest,
        versions={name: version(name) for name in target.runtime},
        num_examples=num_examples,
        num_prompts=0 if prompts is None else len(prompts),
        expected=unrounded.difference(expected),
        rounding=None if other is None else found.difference(unrounded),
        tolerance=target.tolerance,
        run=found.difference(of_run),
        loss=found.loss,
        run_loss=of_run.loss,
    )
    if not result.holds:
        raise OutputError(
            f"an export must compute what was trained, but the logits of {target.name} differ by "
            f"{result.expected.relative:.2g} of the largest (at most {target.tolerance:g}), and its loss is "
            f"{result.loss:.4f} beside {result.run_loss:.4f}; use another target, and report this model"
        )
    return result


class _Answers:
    """Of one model: logits where there is something to predict, greedy continuations, and the loss."""

    def __init__(self, model: nn.Module, batch: Batch, prompts: torch.Tensor | None, loss: float) -> None:
        self.loss = loss
        with evaluating(model):
            self.logits = _logits(model, batch)
            self.continuations = None if prompts is None else _continuations(model, prompts)

    def difference(self, other: _Answers) -> Difference:
        largest = (self.logits - other.logits).abs().max().item()
        same = None
        if self.continuations is not None and other.continuations is not None:
            same = int((self.continuations == other.continuations).all(1).sum())
        return Difference(
            largest=largest,
            relative=largest / max(other.logits.abs().max().item(), 1e-30),
            same_continuations=same,
        )


def _logits(model: Any, batch: Batch) -> torch.Tensor:
    """Of all that is no padding, float32, on the CPU."""
    labels, mask = batch.get("labels"), batch.get("attention_mask")
    outputs = model(**batch)
    if "start_logits" in outputs:
        logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], -1)  # (batch, time, 2)
    else:
        logits = outputs["logits"]
    if labels is not None and labels.shape == logits.shape[:2] and mask is not None:
        is_decoder_alone = mask.shape == labels.shape
        logits = logits[mask.bool() if is_decoder_alone else labels != IGNORED]
    return logits.float().cpu()


def _prompts(run: FinishedRun) -> torch.Tensor | None:
    """The beginnings of validation examples, (prompts, tokens), where the model writes on; else None."""
    task = run.task
    if run.plan.study.task.type != "causal-lm":
        return None
    num_prompts = min(NUM_PROMPTS, task.num_examples("validation"))
    batch = task.batch("validation", list(range(num_prompts)))
    mask = batch.get("attention_mask")
    shortest = batch["input_ids"].shape[1] if mask is None else int(mask.sum(1).min())
    return batch["input_ids"][:, : min(PROMPT_TOKENS, shortest)]


def _continuations(model: Any, prompts: torch.Tensor) -> torch.Tensor:
    """The likeliest next tokens, one after another, (prompts, NEW_TOKENS)."""
    tokens = prompts
    for _ in range(NEW_TOKENS):
        logits = model(input_ids=tokens)["logits"]
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1).to(tokens)], dim=1)
    return tokens[:, prompts.shape[1] :]
