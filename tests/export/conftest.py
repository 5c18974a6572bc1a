"""Finished runs of tiny models, in formats and ranks that differ from module to module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModuleSpec, Part
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import read_layout

TASKS: dict[str, dict[str, Any]] = {
    "causal-lm": {"type": "causal-lm", "sequence_length": 16},
    "sequence-classification": {"type": "sequence-classification", "labels": [0, 1], "max_length": 32},
    "question-answering": {
        "type": "question-answering",
        "context_column": "text",
        "max_length": 64,
        "stride": 8,
    },
    "seq2seq-lm": {"type": "seq2seq-lm", "source": "{text}", "target": "{german}"},
}

RANKS = (4, 0, 16, 8)


@pytest.fixture(scope="session")
def finished_run(
    family_models: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The folder of a run of a family on a task: formats and ranks in turn, four steps at a high rate.

    ``family``: one of the fixture's, or the folder of another; ``by_part``: formats of attention and
    feed-forward in place of those in turn.
    """
    made: dict[tuple[Any, ...], Path] = {}

    def run(
        family: str,
        task: str = "causal-lm",
        formats: tuple[str, ...] = ("nf4", "int8", "16bit"),
        ranks: tuple[int, ...] = RANKS,
        by_part: tuple[str, str] | None = None,
        **lora: Any,
    ) -> Path:
        key = (family, task, formats, ranks, by_part, *lora.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp("run") / Path(family).name
            model = family_models / family
            full_run(plan_of(model, rows_file, task, formats, ranks, lora, by_part), made[key])
        return made[key]

    return run


def plan_of(
    model: Path,
    rows_file: Path,
    task: str,
    formats: tuple[str, ...],
    ranks: tuple[int, ...],
    lora: dict[str, Any],
    by_part: tuple[str, str] | None = None,
) -> PlanFile:
    data = {"files": {"train": str(rows_file)}, "validation_share": 0.1}
    study = StudyConfig.model_validate(
        {
            "name": "s",
            "model": {"id": str(model)},
            "task": {**TASKS[task], "data": data},
            "lora": lora,
            "full_run": {"max_steps": 4, "batch_size": 4, "evaluations": 1, "learning_rate": 0.01},
            "device": "cpu",
        }
    )
    layout = read_layout(study.model, study.task.type, study.task.head)

    def format_of(at: int, spec: ModuleSpec) -> str:
        if not spec.quantizable:
            return "16bit"
        if by_part is not None and spec.part in (Part.ATTENTION, Part.MLP):
            return by_part[spec.part == Part.MLP]
        return formats[at % len(formats)]

    modules = {
        spec.name: ModuleChoice(
            format=format_of(at, spec),
            rank=ranks[at % len(ranks)] if spec.adaptable else 0,
        )
        for at, spec in enumerate(layout.modules)
    }
    return PlanFile.build(Plan(modules=modules, lora=study.lora), layout, study)
