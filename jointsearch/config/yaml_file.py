"""Study files: YAML in, a validated ``StudyConfig`` out, or one line that says what is wrong where.

Relative paths in a study file start at the file's own folder, so that a study means the same from
every working directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from jointsearch.config.study import StudyConfig, is_folder_id
from jointsearch.errors import StudyFileError, first_line, nearest


def read_study(path: Path) -> StudyConfig:
    """Read and validate a study file; raises ``StudyFileError`` with the line and the nearest valid key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read ({_reason(error)})") from None
    return parse_study(text, path)


def parse_study(text: str, path: Path) -> StudyConfig:
    """The study of a file at ``path`` with this ``text``; raises ``StudyFileError``."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyFileError(_yaml_problem(error, text, path)) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise StudyFileError(f"{path}: not valid YAML: {first_line(error)}") from None
    if root is None or not isinstance(values, dict):
        raise StudyFileError(f"{path}: a study file must be a mapping with the keys {', '.join(_keys())}")
    _check_keys(root, path)
    values.setdefault("name", path.stem)
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise StudyFileError(_first_problem(error, root, path)) from None
    return _with_absolute_paths(config, path)


def _with_absolute_paths(config: StudyConfig, path: Path) -> StudyConfig:
    """The same study with its relative paths made absolute."""
    folder = path.parent.resolve()

    def absolute(text: str) -> str:
        try:
            return str((folder / Path(text).expanduser()).resolve())
        except (ValueError, RuntimeError) as error:
            raise StudyFileError(f"{path}: {text!r} must be a path, but {first_line(error)}") from None

    values = config.model_dump(mode="json")
    if is_folder_id(config.model.id):
        values["model"]["id"] = absolute(config.model.id)
    data = config.task.data
    if data.files:
        values["task"]["data"]["files"] = {split: absolute(file) for split, file in data.files.items()}
    if data.folder:
        values["task"]["data"]["folder"] = absolute(data.folder)
    return StudyConfig.model_validate(values)


def _first_problem(error: ValidationError, root: yaml.Node, path: Path) -> str:
    """The first thing that is wrong, with its line, on one line."""
    # of several on a line the deepest: what contains it is wrong because of it
    problem = min(error.errors(), key=lambda item: (_line(root, _place(item["loc"])), -len(item["loc"])))
    loc = _place(problem["loc"])
    where = f"{path}:{_line(root, loc)}: "
    name = ".".join(str(part) for part in loc)
    match problem["type"]:
        case "extra_forbidden":
            keys = _keys(problem["loc"][:-1])
            return f"{where}unknown key '{name}'{nearest(str(loc[-1]), keys)} (valid: {', '.join(keys)})"
        case "missing":
            return f"{where}the key '{name}' is required"
        case "literal_error":
            expected = problem["ctx"]["expected"]
            hint = nearest(str(problem["input"]), re.findall(r"'([^']*)'", expected))
            return f"{where}{name} must be {expected}, but got {problem['input']!r}{hint}"
        case "union_tag_not_found":
            return f"{where}the key '{name}.type' is required: {_choices(_TASKS)}"
        case "union_tag_invalid":
            tag = problem["ctx"]["tag"]
            where = f"{path}:{_line(root, (*loc, 'type'))}: "
            return f"{where}{name}.type must be {_choices(_TASKS)}, but got '{tag}'{nearest(tag, _TASKS)}"
        case "value_error":
            return f"{where}{name + ': ' if name else ''}{problem['ctx']['error']}"
        case _:
            return f"{where}{name}: {problem['msg']}, but got {problem['input']!r}"


def _place(loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """Where in the file: without pydantic's words for keys and for the kind of task."""
    return tuple(part for part in loc if part != "[key]" and part not in _TASKS)


def _choices(names: Iterable[str]) -> str:
    """As pydantic writes choices: ``'a', 'b' or 'c'``."""
    return " or ".join(", ".join(f"'{name}'" for name in names).rsplit(", ", 1))


def _keys(loc: Sequence[int | str] = ()) -> list[str]:
    """The valid keys of the mapping at ``loc``, pydantic's words included."""
    model: type[BaseModel] = StudyConfig
    for part in loc:
        if part in _TASKS:
            model = _TASKS[str(part)]
        elif isinstance(part, str):
            model = next(iter(_models_in(model.model_fields[part].annotation)), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for argument in get_args(annotation) for kind in _models_in(argument)]


_TASKS = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in _models_in(StudyConfig.model_fields["task"].annotation)
}
"""The settings class of every kind of task."""


def _line(root: yaml.Node, loc: Sequence[int | str]) -> int:
    """The line (from 1) of the deepest node on the way to ``loc``."""
    node, line = root, root.start_mark.line
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    node, line = value, key.start_mark.line
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def _check_keys(node: yaml.Node, path: Path, parents: tuple[yaml.Node, ...] = ()) -> None:
    """Keys must be texts, and different: YAML readers keep the last of two equal ones in silence."""
    line = node.start_mark.line + 1
    if node in parents:
        raise StudyFileError(f"{path}:{line}: an alias must not contain itself")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise StudyFileError(f"{path}:{line}: a key must be a text, but got '{key.value}'; quote it")
            if key.value in seen:
                raise StudyFileError(f"{path}:{line}: the key '{key.value}' is there twice")
            seen.add(key.value)
            _check_keys(value, path, (*parents, node))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, path, (*parents, node))


def _yaml_problem(error: yaml.YAMLError, text: str, path: Path) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{path}:{line}: not valid YAML: {error.reason}"
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{where}: not valid YAML: {getattr(error, 'problem', None) or first_line(error)}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
