"""What a model is adapted to, by ``task.type``: each kind of task is one file that registers itself.

A file of ``config/tasks`` holds what a study file can say of its task: the data, the columns and the metrics,
and names what needs torch: the class that reads the data and measures (``training.tasks``), and the class
that transformers has for such models. A task from outside is the same: one file that calls
``register_task``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializeAsAny, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError, core_schema

from jointsearch.config.data import DataSettings
from jointsearch.errors import either
from jointsearch.plan.record import Record
from jointsearch.registry import Registry


class TaskBase(Record):
    """What every task says; the settings of a kind come beside it."""

    type: str
    """The kind of task."""
    data: DataSettings
    """Where the rows come from."""

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns that each setting names."""
        raise NotImplementedError

    @property
    def inputs(self) -> tuple[str, ...]:
        """The settings whose columns are what the model is given; rows that share them are the same."""
        return tuple(self.columns)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured, by the names of objectives; ``loss`` is always among them."""
        return ("loss",)

    @property
    def head(self) -> dict[str, Any]:
        """Arguments that the task gives to the model's config: the number of classes, for example."""
        return {}


@dataclass(frozen=True)
class TaskKind:
    """A kind of task."""

    name: str
    """As study files call it: ``task.type``."""
    settings: type[TaskBase]
    implementation: str
    """``package.module:name`` of its ``training.tasks.base.Task``, made of the settings, the tokenizer and
    the model's positions; imported by who trains."""
    model_class: str
    """``package.module:name`` of what loads such a model, as transformers' ``AutoModelFor...`` do."""
    peft_type: str | None = None
    """PEFT's ``task_type``; None for a model that PEFT has no class for."""
    example_model: str = ""
    """A small and well-known one, which ``jointsearch init`` proposes; empty where it must be named."""
    tokens_per_example: int = 256
    """Of usual data: how long a step takes is estimated from them."""
    for_files: bool = True
    """Whether a study file can have it; a task of a person's own Python code is none for files."""


TASKS: Registry[TaskKind] = Registry(
    "task",
    folder="jointsearch.config.tasks",
    first=("causal-lm", "seq2seq-lm", "sequence-classification"),
)


def register_task(kind: TaskKind) -> TaskKind:
    """Make a kind of task known by its name, for ``task.type`` of study files."""
    return TASKS.register(kind)


def tasks_of_files() -> list[str]:
    """The kinds that a study file can name."""
    return [name for name, kind in TASKS.items() if kind.for_files]


class _OfItsKind:
    """Validates a mapping by the settings of the kind that its ``type`` names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_of_its_kind, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = [TASKS[name].settings.__pydantic_core_schema__ for name in tasks_of_files()]
        return {"oneOf": [handler(kind) for kind in kinds]}


def _of_its_kind(value: Any, as_base: Any) -> Any:
    if not isinstance(value, dict):
        return as_base(value)
    if "type" not in value:
        raise _problem(PydanticKnownError("missing"), value)
    name = value["type"]
    if not isinstance(name, str) or name not in TASKS:
        raise _problem(PydanticKnownError("literal_error", {"expected": either(tasks_of_files())}), name)
    return TASKS[name].settings.model_validate(value)


def _problem(error: PydanticKnownError, value: Any) -> ValidationError:
    details = InitErrorDetails(type=error.type, loc=("type",), input=value, ctx=error.context or {})
    return ValidationError.from_exception_data("task", [details])


TaskSettings = Annotated[SerializeAsAny[TaskBase], _OfItsKind()]
"""The settings of any kind of task that is registered."""
