"""Study files: YAML in, a validated ``StudyConfig`` out, or one line that says what is wrong where.

Relative paths in a study file start at the file's own folder, so that a study means the same from
every working directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from jointsearch.config.problems import keys_at, problems
from jointsearch.config.study import StudyConfig, is_folder_id
from jointsearch.config.trust import untold_trust
from jointsearch.errors import StudyFileError, first_line
from jointsearch.files import read_text

MOST_BY_ALIASES = 1000
"""Values that a file may have by aliases, beside those that are written in it."""


def read_study(path: Path) -> StudyConfig:
    """Read and validate a study file; raises ``StudyFileError`` with the line and the nearest valid key."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read ({_reason(error)})") from None
    return parse_study(text, path)


def parse_study(text: str, path: Path) -> StudyConfig:
    """The study of a file at ``path`` with this ``text``; raises ``StudyFileError``."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_aliases(root, path)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyFileError(_yaml_problem(error, text, path)) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise StudyFileError(f"{path}: not valid YAML: {first_line(error)}") from None
    if root is None or not isinstance(values, dict):
        raise StudyFileError(
            f"{path}: a study file must be a mapping with the keys {', '.join(keys_at((), {}))}"
        )
    _check_keys(root, path)
    values.setdefault("name", path.stem)
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise StudyFileError(_first_problem(error, values, root, path)) from None
    if problem := untold_trust(values):
        raise StudyFileError(f"{path}:{_line(root, ('model', 'trust_remote_code'))}: {problem}")
    return _with_absolute_paths(config, path)


def _with_absolute_paths(config: StudyConfig, path: Path) -> StudyConfig:
    """The same study with its relative paths made absolute."""
    folder = path.parent.resolve()

    def absolute(text: str) -> str:
        try:
            return str((folder / Path(text).expanduser()).resolve())
        except (ValueError, RuntimeError) as error:
            raise StudyFileError(f"{path}: {text!r} must be a path, but {first_line(error)}") from None

    values = config.model_dump(mode="json", exclude_unset=True)
    if is_folder_id(config.model.id):
        values["model"]["id"] = absolute(config.model.id)
    data = config.task.data
    if data and data.files:
        values["task"]["data"]["files"] = {split: absolute(file) for split, file in data.files.items()}
    if data and data.folder:
        values["task"]["data"]["folder"] = absolute(data.folder)
    return StudyConfig.model_validate(values)


def _first_problem(error: ValidationError, values: Mapping[str, Any], root: yaml.Node, path: Path) -> str:
    """The first thing that is wrong, with its line, on one line."""
    # of several on a line the deepest: what contains it is wrong because of it
    found = min(problems(error, values), key=lambda found: (_line(root, found.place), -len(found.place)))
    return f"{path}:{_line(root, found.place)}: {found.text}"


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


def _check_aliases(root: yaml.Node | None, path: Path) -> None:
    """A few lines of aliases of aliases can stand for more than memory holds; raises ``StudyFileError``."""
    sizes: dict[yaml.Node, int] = {}
    """Of nodes with all that is in them, aliases written out; 0 while that is yet to be found."""

    def size(node: yaml.Node) -> int:
        if node not in sizes:
            sizes[node] = 0
            values = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
            sizes[node] = 1 + sum(map(size, inner))
        elif sizes[node] == 0:
            line = node.start_mark.line + 1
            raise StudyFileError(f"{path}:{line}: an alias must not contain itself")
        return sizes[node]

    whole = 0 if root is None else size(root)
    if whole > len(sizes) + MOST_BY_ALIASES:
        raise StudyFileError(
            f"{path}: aliases must stand for at most {MOST_BY_ALIASES} values in all, but they stand for "
            f"{whole - len(sizes):.3g}; write out what is meant"
        )


def _check_keys(node: yaml.Node, path: Path) -> None:
    """Keys must be texts, and different: YAML readers keep the last of two equal ones in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise StudyFileError(f"{path}:{line}: a key must be a text, but got '{key.value}'; quote it")
            if key.value in seen:
                raise StudyFileError(f"{path}:{line}: the key '{key.value}' is there twice")
            seen.add(key.value)
            _check_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, path)


def _yaml_problem(error: yaml.YAMLError, text: str, path: Path) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{path}:{line}: not valid YAML: {error.reason}"
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{where}: not valid YAML: {getattr(error, 'problem', None) or first_line(error)}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
