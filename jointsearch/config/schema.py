"""The JSON Schema of study files, for editors: keys and names complete, mistakes are marked while one types.

It is made of the classes that check study files, and of what is registered on this machine; the texts below
the fields in their source are the descriptions.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from jointsearch.config.study import StudyConfig
from jointsearch.config.task import TASKS, TaskBase, tasks_of_files
from jointsearch.front.objectives import OBJECTIVES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def study_schema() -> dict[str, Any]:
    """Of a whole study file, whose name may be left to the file's."""
    schema = StudyConfig.model_json_schema()
    models = {model.__name__: model for model in _models_below(StudyConfig)}
    for name, definition in schema["$defs"].items():
        _describe(definition, models[name])
    _describe(schema, StudyConfig)
    for kind in schema["properties"]["task"]["oneOf"]:
        _describe(kind, models[kind["title"]])
    schema["properties"]["objectives"]["items"]["enum"] = list(OBJECTIVES)
    schema["required"].remove("name")
    return {"$schema": DIALECT, **schema}


def schema_text() -> str:
    """What ``study.schema.json`` holds."""
    return json.dumps(study_schema(), indent=1) + "\n"


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field in the source of a class and of those that it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = inspect.cleandoc(words)
    return found


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Give a class's schema its own words, and none of pydantic's."""
    texts = field_docstrings(model)
    schema["description"] = _plain(inspect.getdoc(model) or "")
    for name, field in schema["properties"].items():
        field.pop("title", None)
        field["description"] = _plain(texts.get(name, ""))
        if "$ref" in field:
            field.pop("default", None)  # its own settings say theirs


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _models_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            yield inner
            yield from _models_below(inner)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation is TaskBase:
        return [TASKS[name].settings for name in tasks_of_files()]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
