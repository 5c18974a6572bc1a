"""The model card of an export: what it is made of, what was measured, and how it is loaded."""

from __future__ import annotations

from collections import Counter

import yaml

from jointsearch.config.study import is_folder_id
from jointsearch.config.task import TASKS
from jointsearch.export.finished_run import FinishedRun
from jointsearch.export.serving import ServingTarget
from jointsearch.export.verification import NEW_TOKENS, Verification
from jointsearch.front.objectives import format_bytes, format_value


def model_card(
    run: FinishedRun,
    target: ServingTarget,
    folder: str,
    found: Verification | None,
    repository: str | None = None,
) -> str:
    """Markdown with the Hub's metadata before it.

    ``folder``: the export's name on a disk; ``repository``: on the Hub; ``found``: the figures, where it was
    verified.
    """
    name = repository or folder
    ranks = run.plan.plan.ranks
    base = run.plan.study.model.id
    usage = target.usage.format(
        folder=name if "transformers" in target.runtime else folder,
        base=base,
        auto_class=TASKS[run.plan.study.task.type].model_class.partition(":")[2],
        max_rank=max(ranks.values(), default=0),
    )
    if repository is not None and "transformers" not in target.runtime:
        usage = f"```\nhf download {repository} --local-dir {folder}\n```\n\n{usage}"
    parts = [
        f"---\n{yaml.safe_dump(_metadata(run, target), sort_keys=False)}---",
        f"# {name}",
        f"{run.plan.layout.architecture} from `{base}`, fine-tuned by jointsearch with a weight format and a "
        f"LoRA rank of its own for every module; here as `{target.name}`: {target.description}.",
        f"## Load it\n\n{usage}",
        f"## The plan\n\n{_plan(run)}",
        f"## The run\n\n{_metrics(run)}",
    ]
    if found is not None:
        parts.append(f"## In its runtime\n\n{_figures(found)}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _metadata(run: FinishedRun, target: ServingTarget) -> dict[str, object]:
    study = run.plan.study
    dataset = getattr(getattr(study.task, "data", None), "hub", None)
    return {
        **({} if is_folder_id(study.model.id) else {"base_model": study.model.id}),
        **({"datasets": [dataset]} if dataset else {}),
        "library_name": "peft" if target.name == "adapter" else "transformers",
        "tags": ["jointsearch", "lora"],
    }


def _plan(run: FinishedRun) -> str:
    """How many modules have each format, and which ranks."""
    choices = run.plan.plan.modules.values()
    formats = Counter(choice.format for choice in choices)
    ranks = Counter(choice.rank for choice in choices)
    rows = [f"| {weight_format} | {number} |" for weight_format, number in sorted(formats.items())]
    ranked = ", ".join(f"{number} of rank {rank}" for rank, number in sorted(ranks.items()))
    size = format_bytes(run.plan.cost.model_bytes)
    return "\n".join(
        ["| format | modules |", "|---|---|", *rows, "", f"Adapters: {ranked}. The run takes {size}."]
    )


def _metrics(run: FinishedRun) -> str:
    """On its validation split."""
    result = run.result
    rows = [f"| {name} | {format_value(name, value)} |" for name, value in result.validation.items()]
    text = f"Trained for {result.steps} steps; on the validation data:"
    return "\n".join([text, "", "| metric | value |", "|---|---|", *rows])


def _figures(found: Verification) -> str:
    """What the export gives beside what is expected of it, and beside the run."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    lines = [
        f"On {found.num_examples} validation examples with {versions}:",
        "",
        "| beside | largest difference of a logit | of the largest logit | same continuations |",
        "|---|---|---|---|",
    ]
    rounding = [] if found.rounding is None else [("its weights without its rounding", found.rounding)]
    rows = [("what it must compute", found.expected), *rounding, ("the run", found.run)]
    for name, difference in rows:
        same = "" if difference.same_continuations is None else f"{difference.same_continuations}"
        of = f" of {found.num_prompts}, {NEW_TOKENS} tokens each" if same else "none are written"
        lines.append(f"| {name} | {difference.largest:.3g} | {difference.relative:.3g} | {same}{of} |")
    return "\n".join([*lines, "", f"Its loss there is {found.loss:.4f}, the run's {found.run_loss:.4f}."])
