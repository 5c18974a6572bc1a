"""A study file from five answers; its text is in ``study.yaml.template``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from jointsearch.cli.new_study.data_source import DataSource, relative
from jointsearch.cli.new_study.effort import Effort, count_parameters, effort_for
from jointsearch.cli.new_study.task_columns import settings_for
from jointsearch.config.data import COMPRESSIONS, FILE_KINDS
from jointsearch.config.task import TASKS
from jointsearch.errors import ModelError

TEMPLATE = Path(__file__).with_name("study.yaml.template")

BATCH_SIZE = 8
VALIDATION_EXAMPLES = {"sequence-classification": 256}
"""Where an example has one number only, few of them are noise; 64 else."""


@dataclass(frozen=True)
class Answers:
    """To the five questions."""

    model: str
    data: str
    task: str
    device: str
    minutes: float


def study_text(answers: Answers, source: DataSource, output: Path, device_in_use: str) -> tuple[str, Effort]:
    """The study file for ``output``, and what it does in its time.

    ``device_in_use`` is the kind of device that ``auto`` stands for. Raises ``DataError`` where the data
    lacks what the task needs.
    """
    per_example = TASKS[answers.task].tokens_per_example
    tokens = per_example * BATCH_SIZE
    num_parameters = count_parameters(answers.model)
    effort = effort_for(answers.minutes, num_parameters, tokens, device_in_use)
    task: dict[str, Any] = {"type": answers.task, "data": source.settings}
    task |= settings_for(answers.task, source.columns)
    if answers.task == "causal-lm":
        task["sequence_length"] = per_example
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        model=answers.model,
        data=answers.data,
        file=output,
        name=study_name(answers),
        model_id=_scalar(model_id(answers.model, output.absolute().parent)),
        columns_note="" if source.columns else " They could not be looked at: check the columns.",
        task="\n".join(f"  {line}" for line in _yaml(task).splitlines()),
        bits=effort.bits,
        ranks=effort.ranks,
        minutes=f"{answers.minutes:g}",
        device=device_in_use,
        seconds=f"{effort.seconds_per_step:.2g}",
        parameters=f"{num_parameters / 1e6:.3g} M",
        tokens=tokens,
        trials=effort.trials,
        steps=effort.steps,
        batch_size=BATCH_SIZE,
        validation_examples=VALIDATION_EXAMPLES.get(answers.task, 64),
        study_device=answers.device,
    )
    return text, effort


def model_id(model: str, study_folder: Path) -> str:
    """``model`` as the study file names it: a folder by its path from there; raises ``ModelError``."""
    path = Path(model).expanduser()
    if path.is_dir():
        return relative(path, study_folder)
    if model.startswith((".", "/", "~")):
        raise ModelError(f"a model must be an id on the Hub or a folder, but there is no folder {model}")
    return model


def study_name(answers: Answers) -> str:
    """Of the model and the data, in letters that a study's name may have."""
    data = Path(answers.data.rpartition(":")[2])
    name = data.name
    for endings in (COMPRESSIONS, FILE_KINDS):
        name = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in endings else name
    parts = (Path(answers.model).name, name)
    words = (re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-._") for part in parts)
    return "-".join(word for word in words if word).lower() or "study"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)


def _scalar(text: str) -> str:
    """Quoted where YAML needs it."""
    return _yaml({"id": text}).removeprefix("id:").strip()
