"""From what a person hands over to a study's settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from jointsearch.assemble import read_study_file
from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import IN_MEMORY, StudyConfig
from jointsearch.config.yaml_file import parse_study
from jointsearch.errors import StudyFileError
from jointsearch.front.objectives import OBJECTIVES, Objective

Source = str | PathLike[str] | Mapping[str, Any] | StudyConfig
"""A study file's path, an embedded study's name, its content as a dict, or settings."""


def settings_of(
    source: Source | None,
    *,
    own_code: Mapping[str, Any] | None = None,
    name: str | None = None,
    objectives: Sequence[str | Objective] | None = None,
    search_space: SpaceSettings | Mapping[str, Any] | None = None,
) -> StudyConfig:
    """The settings of a study; what is given beside ``source`` replaces what it says.

    ``own_code``: the sections that follow from a person's own Python code, where that runs the trials; a
    source then needs neither a model nor a task. Raises ``StudyFileError``.
    """
    values = _values(source)
    if own_code is not None:
        values.setdefault("model", {"id": IN_MEMORY})
        values.setdefault("task", {"type": "custom"})
        for section, fixed in own_code.items():
            values[section] = {**values.get(section, {}), **fixed}
    if name is not None:
        values["name"] = name
    if search_space is not None:
        values["search_space"] = search_space
    if own_code is not None and _plain(values.get("search_space", {})).get("learning_rates"):
        values.get("calibration", {}).pop("learning_rate", None)  # the code's own, which is searched instead
    given = values.get("objectives") if objectives is None else objectives
    if given is not None:
        values["objectives"] = [each.name if isinstance(each, Objective) else each for each in given]
        _declare(values, [each for each in given if isinstance(each, Objective)])
    return _checked(values)


def _values(source: Source | None) -> dict[str, Any]:
    if source is None:
        return {}
    if isinstance(source, StudyConfig):
        return source.model_dump(mode="json", exclude_unset=True) | {"name": source.name}
    if isinstance(source, Mapping):
        return dict(source)
    return read_study_file(fspath(source)).model_dump(mode="json", exclude_unset=True)


def _declare(values: dict[str, Any], objectives: Sequence[Objective]) -> None:
    """Have the task measure the objectives that no study knows by itself."""
    own = {each.name: each.direction for each in objectives if not _is_known(each)}
    if not own:
        return
    task = values.get("task")
    if not isinstance(task, Mapping) or task.get("type") != "custom":
        raise StudyFileError(
            f"only a runner, or a model and data handed over in Python, can measure {', '.join(own)}; "
            f"the objectives of other studies are {', '.join(OBJECTIVES)}"
        )
    values["task"] = {**task, "measures": {**task.get("measures", {}), **own}}


def _is_known(objective: Objective) -> bool:
    """Whether it is one that every trial has, such as ``model_bytes``."""
    known = OBJECTIVES.get(objective.name)
    return known is not None and known.is_cost and known.direction == objective.direction


def _checked(values: Mapping[str, Any]) -> StudyConfig:
    """Checked as the study file that would say the same, whose messages name the nearest keys."""
    try:
        text = yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError:
        raise StudyFileError("a study dict must have texts, numbers, lists and dicts alone") from None
    try:
        return parse_study(text, Path("study"))
    except StudyFileError as error:
        raise StudyFileError(re.sub(r"^study:\d+: ", "", str(error))) from None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
