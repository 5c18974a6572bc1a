"""What is wrong with a study's settings, in one line: the rule, the value, the fix.

pydantic finds what breaks a rule; how it is said is here, so that a study file, a dictionary and the Python
API are answered in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jointsearch.config.data import FILE_KINDS, file_kind
from jointsearch.config.study import StudyConfig, is_folder_id
from jointsearch.config.task import TASKS, TaskBase, tasks_of_files
from jointsearch.config.trust import untold_trust
from jointsearch.errors import StudyFileError, either, nearest, one_line

Place = tuple[int | str, ...]

_RULES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "string_too_short": "must not be empty",
    "too_short": "must have at least one value",
}
"""By pydantic's type of error; what is missing says it in pydantic's words."""

LONGEST_PROBLEM = 400
"""Characters; the file's name is yet to come before it."""

_LONGEST_VALUE = 80

_FOLLOWS = ("default_factory_not_called",)
"""Where a default follows from another field, which is wrong itself."""

_MAPPINGS = ("model_type", "model_attributes_type")
_LISTS = ("tuple_type", "list_type")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong."""

    place: Place
    """The keys and positions that lead to it."""
    text: str
    """With its name at the front."""


def study_from(values: Mapping[str, Any]) -> StudyConfig:
    """The study of a dictionary such as a study file holds; raises ``StudyFileError`` of one line."""
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise StudyFileError(problems(error, values)[0].text) from None
    if problem := untold_trust(values):
        raise StudyFileError(problem)
    return config


def problems(error: ValidationError, values: Mapping[str, Any]) -> list[Problem]:
    """All that is wrong with a study's ``values``."""
    found = [_problem(details, values) for details in error.errors() if details["type"] not in _FOLLOWS]
    return [Problem(problem.place, one_line(problem.text, LONGEST_PROBLEM)) for problem in found]


def keys_at(place: Sequence[int | str], values: Mapping[str, Any]) -> list[str]:
    """The valid keys of the mapping at ``place``."""
    model: type[BaseModel] = StudyConfig
    for part in place:
        if not isinstance(part, str) or part not in model.model_fields:
            continue
        inner = next(iter(_models_in(model.model_fields[part].annotation)), model)
        model = _settings_of(values) if inner is TaskBase else inner
    return list(model.model_fields)


def _problem(details: ErrorDetails, values: Mapping[str, Any]) -> Problem:
    kind, value = details["type"], details["input"]
    place = _place(details["loc"], values, kind)
    name = ".".join(str(part) for part in place)
    match kind:
        case "extra_forbidden":
            keys = keys_at(place[:-1], values)
            hint = nearest(str(place[-1]), keys)
            return Problem(place, f"unknown key '{name}'{hint} (valid: {', '.join(keys)})")
        case "missing":
            choices = f": {either(tasks_of_files())}" if place == ("task", "type") else ""
            return Problem(place, f"the key '{name}' is required{choices}")
        case "literal_error":
            expected = details["ctx"]["expected"]
            hint = nearest(str(value), re.findall(r"'([^']*)'", expected))
            return Problem(place, f"{name} must be {expected}, but got {_shown(value)}{hint}")
        case "value_error":
            return Problem(
                place, f"{name}: {details['ctx']['error']}" if name else str(details["ctx"]["error"])
            )
        case _ if kind in _MAPPINGS:
            keys = keys_at(place, values)
            rule = f"{name}: must be a mapping with the keys {', '.join(keys)}"
            return Problem(place, f"{rule}, but got {_shown(value)}{_as_mapping(place, value)}")
    rule = _RULES.get(kind) or details["msg"].replace("Input should", "must")
    fix = ""
    if kind == "dict_type":
        fix = _as_mapping(place, value)
    if kind in _LISTS and isinstance(value, str | int | float) and len(str(value)) < _LONGEST_VALUE:
        fix = f"; write [{value}]"
    return Problem(place, f"{name}: {rule}, but got {_shown(value)}{fix}")


def _place(loc: Sequence[int | str], values: Any, kind: str) -> Place:
    """Where it is: without pydantic's own words for keys and for the choices of a type."""
    place: list[int | str] = []
    for part in loc:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            if kind != "missing":
                break
            values = None
        place.append(part)
    return tuple(place)


def _as_mapping(place: Place, value: Any) -> str:
    """What to write in place of a plain text."""
    if not isinstance(value, str):
        return ""
    match place:
        case ("model",):
            return f"; write model: {{id: {value}}}"
        case ("task",):
            return f"; write task: {{type: {value}, data: ...}}"
        case ("task", "data", "files"):
            return f"; write files: {{train: {value}}}"
        case ("task", "data"):
            if file_kind(value) in FILE_KINDS or PurePath(value.lower()).suffix == ".zip":
                return f"; write data: {{files: {{train: {value}}}}}"
            return f"; write data: {{{'folder' if is_folder_id(value) else 'hub'}: {value}}}"
    return ""


def _shown(value: Any) -> str:
    return "nothing" if value is None else one_line(repr(value), _LONGEST_VALUE)


def _settings_of(values: Mapping[str, Any]) -> type[TaskBase]:
    """Of the task that the values name, where they do."""
    task = values.get("task")
    name = task.get("type") if isinstance(task, Mapping) else None
    return TASKS[name].settings if isinstance(name, str) and name in TASKS else TaskBase


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for argument in get_args(annotation) for kind in _models_in(argument)]
