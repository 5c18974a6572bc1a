"""Every setting of a study file with its type, default and meaning, from the classes that check them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from markdown_table import code, table
from pydantic import BaseModel

from jointsearch.config.schema import field_docstrings
from jointsearch.config.study import StudyConfig
from jointsearch.config.task import TASKS, TaskBase, tasks_of_files
from jointsearch.front.objectives import OBJECTIVES

MAPPING = "a mapping"


def all_settings() -> str:
    """A table for the top of the file and one for each mapping in it."""
    return "\n\n".join(_section(path, model) for path, model in sections().items())


def sections() -> dict[str, type[BaseModel]]:
    """The place of every mapping in a study file, and the class that checks it.

    What several kinds of task have in common stands once.
    """
    return {"": StudyConfig, **dict(_below("", StudyConfig))}


def _below(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        kinds = _models_in(field.annotation)
        here = f"{path}.{name}".strip(".")
        yield from ((_title(here, kind, kinds), kind) for kind in kinds)
        for kind in kinds:
            yield from _below(here, kind)


def all_objectives() -> str:
    """What a study can have as an objective."""
    rows = [
        (
            code(entry.name),
            "cost" if entry.is_cost else "quality",
            f"{entry.direction}d",
            entry.description,
        )
        for entry in OBJECTIVES.values()
    ]
    return table(["objective", "kind", "is", "what it is"], rows)


def _title(place: str, model: type[BaseModel], kinds: list[type[BaseModel]]) -> str:
    """Of a section: the place, and the kind where there are several."""
    if len(kinds) == 1:
        return place
    return f"{place} (type: {get_args(model.model_fields['type'].annotation)[0]})"


def _anchor(place: str, kinds: list[type[BaseModel]]) -> str:
    """The id of the section's heading, of several the first, as Python-Markdown makes it."""
    return re.sub(r"[^\w\s-]", "", _title(place, kinds[0], kinds).lower()).replace(" ", "-")


def _section(path: str, model: type[BaseModel]) -> str:
    meanings = field_docstrings(model)
    root = model.model_json_schema()
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _default(_default_of(model, name))
        shown, meaning = _type(root["properties"][name], root), meanings.get(name, "")
        if nested := _models_in(field.annotation):
            place = f"{path.partition(' ')[0]}.{name}".strip(".")
            shown = shown.replace(MAPPING, f"[{MAPPING}](#{_anchor(place, nested)})")
            meaning = (
                meaning or (inspect.getdoc(nested[0]) if len(nested) == 1 else "Of one of the kinds.") or ""
            )
        rows.append((code(name), shown, default, _line(meaning)))
    parts = [f"## {path or 'The top of the file'}", _line(inspect.getdoc(model) or "")]
    return "\n\n".join([*parts, table(["setting", "value", "default", "meaning"], rows)])


def _default_of(model: type[BaseModel], name: str) -> Any:
    field = model.model_fields[name]
    # a default that follows from other fields is that beside their defaults
    return getattr(model(), name) if field.default_factory else field.get_default()


def _line(text: str) -> str:
    """A docstring on one line, with Markdown's signs for code."""
    return " ".join(text.replace("``", "`").split())


def _default(value: Any) -> str:
    match value:
        case None:
            return "none"
        case BaseModel():
            given = value.model_dump(mode="json", exclude_defaults=True)
            return (
                code(", ".join(f"{name}: {json.dumps(item)}" for name, item in given.items()))
                if given
                else ""
            )
        case str():
            return code(value) if value else "empty"
        case _:
            return code(json.dumps(value))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation is TaskBase:
        return [TASKS[name].settings for name in tasks_of_files()]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for argument in get_args(annotation) for kind in _models_in(argument)]


def _type(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """What a value must be, in words."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "properties" in schema or "oneOf" in schema:
        return MAPPING
    if "anyOf" in schema:
        kinds = [_type(part, root) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return code(str(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"a list: {_type(schema['items'], root)}"
        case "object":
            values = schema.get("additionalProperties")
            inner = f": {_type(values, root)}" if isinstance(values, dict) else ""
            return f"a mapping{inner}"
        case "boolean":
            return "`true`, `false`"
        case "integer":
            return f"whole number{_range(schema)}"
        case "number":
            return f"number{_range(schema)}"
        case "string":
            return "text"
    return "any value"


def _range(schema: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [
        f"{sign} {schema[key]:g}" for key, sign in words.items() if key in schema and schema[key] < 2**31
    ]
    return f" {', '.join(limits)}" if limits else ""
