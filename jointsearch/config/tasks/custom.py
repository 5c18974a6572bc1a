"""A task that Python code of one's own trains and measures: a Runner, or a model, data and a Trainer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.task import TaskBase, TaskKind, register_task
from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES, Direction


class CustomTaskSettings(TaskBase):
    """What a study keeps of a task that only its own Python code can run.

    The study's results can be read everywhere; its trials are run where that code is
    (``jointsearch.create_study`` and ``load_study``).
    """

    type: Literal["custom"]
    data: None = None  # type: ignore[assignment]  # the code has them
    measures: Annotated[dict[str, Direction], Field(min_length=1)] = {"loss": "minimize"}
    """What is measured, by name, and which way is better."""
    trainer: str = ""
    """The class that trains a trial, as ``package.module.Class``; empty where a runner does it."""
    compute_metrics: str = ""
    """The function that measures, as ``package.module.function``."""
    arguments: dict[str, Any] = {}
    """Those of the trainer's arguments that differ from their defaults."""
    model_digest: str = ""
    """Of some weights of a model that was handed over in memory."""
    train_digest: str = ""
    """Of some rows of the training data."""
    eval_digest: str = ""
    """Of some rows of the validation data."""

    @model_validator(mode="after")
    def _declared(self) -> Self:
        # whoever reads the study must know which way is better, without the code that measures it
        for name, direction in self.measures.items():
            OBJECTIVES.declare(name, direction)
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.measures)

    @property
    def columns(self) -> dict[str, list[str]]:
        return {}


def check_runs_from_file(study: str, task: TaskBase) -> None:
    """Raise ``StudyError`` where the study of that name is run by Python code of a person's own."""
    if task.type == "custom":
        raise StudyError(
            f"the study '{study}' is run by its own Python code (task.type: custom), which no file and no "
            "storage has; go on in Python, with runner=... of jointsearch.load_study, train and evaluate"
        )


register_task(
    TaskKind(
        "custom",
        CustomTaskSettings,
        "jointsearch.training.own.runner:TrainerRunner",
        "jointsearch.training.own.model:ModelOfItsClass",
        for_files=False,
    )
)
