"""Creates, opens, lists and deletes studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from pydantic import ValidationError

from jointsearch.config.problems import problems
from jointsearch.config.study import StudyConfig, differences
from jointsearch.errors import StudyError, first_line, nearest
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.limits import Limits
from jointsearch.plan.memory import MemoryProfile
from jointsearch.registry import PLUGINS
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.space import build_space
from jointsearch.study.attributes import CONFIG, LAYOUT, MEMORY
from jointsearch.study.busy import busy_workers
from jointsearch.study.storage.identity import IDENTITY, identified
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.storage.reading import studies_with
from jointsearch.study.storage.writing import delete
from jointsearch.study.stored import StoredStudy
from jointsearch.study.warm_start import enqueue_known

Found = TypeVar("Found")


def find_study(storage: BaseStorage, name: str) -> StoredStudy | None:
    """The study of that name; None where there is no whole one. Raises ``StudyError`` if it is not ours."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        attributes = study.user_attrs
        if is_half_made(attributes):
            return None
        if CONFIG not in attributes:
            raise StudyError(f"the study '{name}' was not made by jointsearch; choose another name")
        study = identified(study)
    except (KeyError, UnicodeEncodeError):  # has just been deleted; has a name that nothing can have
        return None
    except (json.JSONDecodeError, RecursionError) as error:
        raise StudyError(f"the study '{name}' must hold JSON, but {first_line(error)}") from None
    try:
        config = StudyConfig.model_validate(attributes[CONFIG])
    except ValidationError as error:
        problem = problems(error, attributes[CONFIG])[0].text
        raise StudyError(
            f"the study '{name}' was made by another version of jointsearch, or with a plug-in that "
            f"{PLUGINS} must name: {problem}"
        ) from None
    return StoredStudy(study, config)


def open_study(storage: BaseStorage, name: str) -> StoredStudy:
    """The study of that name; raises ``StudyError`` naming the nearest one there is."""
    study = find_study(storage, name)
    if study is None:
        names = study_names(storage)
        there = f" (there are {', '.join(names)})" if names else " (the storage has none)"
        raise StudyError(f"there is no study '{name}'{nearest(name, names) or there}")
    return study


def load_study(name: str, url: str) -> StoredStudy:
    """The study of that name in the storage at ``url``; raises ``StorageError`` and ``StudyError``."""
    return open_study(open_storage(url), name)


def study_names(storage: BaseStorage) -> list[str]:
    """Names of the studies that jointsearch made; a storage may hold others."""
    return studies_with(storage, CONFIG)


def read_each(names: Iterable[str], read: Callable[[str], Found]) -> tuple[list[Found], list[str]]:
    """What ``read`` finds of each study, and a line for each that it cannot read: it hides no other one."""
    found, unreadable = [], []
    for name in names:
        try:
            found.append(read(name))
        except StudyError as error:
            unreadable.append(str(error))
        except (LookupError, TypeError, ValueError) as error:
            unreadable.append(
                f"the study '{name}' was made by another version of jointsearch: "
                f"{type(error).__name__}: {first_line(error)}"
            )
    return found, unreadable


def delete_study(storage: BaseStorage, name: str, *, force: bool = False) -> None:
    """Raises ``StudyError`` where workers are at the study; ``force``: delete it all the same."""
    study = open_study(storage, name)
    if (busy := busy_workers(study)) and not force:
        raise StudyError(
            f"no worker must be at a study that is deleted, but '{name}' has {', '.join(busy)}; "
            f"`jointsearch study cancel {name}` ends them, --force deletes it under them"
        )
    delete(study.optuna_study)


def check_unchanged(study: StoredStudy, config: StudyConfig) -> None:
    """Raise ``StudyError`` with the differences if the study was made from another study file."""
    if study.config.digest != config.digest:
        changes = "; ".join(differences(study.config.identity, config.identity))
        raise StudyError(
            f"study '{config.name}' was made from another study file ({changes}); "
            "undo the change, give the file another name, or delete the study"
        )


def is_half_made(attributes: Mapping[str, Any]) -> bool:
    """Whether a study of ours is being created, or who created it was killed, by its user attributes."""
    return IDENTITY in attributes and CONFIG not in attributes


def discard_half_made(storage: BaseStorage, name: str) -> None:
    """Delete what a creation has left that was killed; whoever calls it holds the lock of creations."""
    with suppress(KeyError):
        study = optuna.load_study(study_name=name, storage=storage)
        if is_half_made(study.user_attrs):
            delete(study)


def create_study(
    storage: BaseStorage,
    config: StudyConfig,
    layout: ModelLayout,
    memory: MemoryProfile | None = None,
) -> StoredStudy:
    """A new study with its baselines in the queue, there as a whole or not at all."""
    space = build_space(config, layout)
    try:
        study = optuna.create_study(
            study_name=config.name,
            storage=storage,
            directions=[OBJECTIVES[name].direction for name in config.objectives],
        )
    except DuplicatedStudyError:  # behind a proxy, which has no locks
        raise StudyError(
            f"a study must be created once, but another process is creating '{config.name}'; start it again"
        ) from None
    try:
        study = identified(study)
        with experimental_optuna():
            study.set_metric_names(list(config.objectives))
        study.set_user_attr(LAYOUT, layout.model_dump(mode="json"))
        if memory is not None:
            study.set_user_attr(MEMORY, memory.model_dump(mode="json"))
        enqueue_known(study, space, Limits.of(config.search_space, layout, memory), config)
        # last, because a study without it is not ours
        study.set_user_attr(CONFIG, config.model_dump(mode="json"))
    except BaseException:
        optuna.delete_study(study_name=config.name, storage=storage)
        raise
    return StoredStudy(study, config)
