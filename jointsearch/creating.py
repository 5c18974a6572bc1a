"""A study for a study file: the stored one, or a new one, of which nothing is stored if it cannot run."""

from __future__ import annotations

from dataclasses import dataclass

from jointsearch.assemble import check_data, read_layout, read_memory, with_labels
from jointsearch.config.fields import with_former_defaults
from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyFileError
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.limits import Limits
from jointsearch.plan.memory import MemoryProfile
from jointsearch.space import SearchSpace, build_space
from jointsearch.study.storage.locks import creation_lock
from jointsearch.study.storage.opening import open_if_there, open_storage
from jointsearch.study.storage.urls import is_proxy
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import check_unchanged, create_study, discard_half_made, find_study


@dataclass(frozen=True)
class Draft:
    """A study that can run and is stored nowhere yet."""

    config: StudyConfig
    layout: ModelLayout
    memory: MemoryProfile | None = None
    """What training takes; None where it cannot be foretold."""


def draft(config: StudyConfig, layout: ModelLayout | None = None) -> Draft:
    """What ``config`` makes of its data and its model; raises ``StudyFileError`` or
    ``DataError`` where it cannot run.

    ``layout``: of a model that is not read from ``config``.
    """
    is_read = layout is None
    if is_read:
        check_data(config)
    config = with_labels(config, None)
    layout = layout or read_layout(config)
    space = build_space(config, layout)  # says what is wrong with it before the model is loaded
    memory = read_memory(config, layout) if is_read else None
    check_limits(config, space, Limits.of(config.search_space, layout, memory))
    return Draft(config, layout, memory)


def check_limits(config: StudyConfig, space: SearchSpace, limits: Limits) -> None:
    """Raise ``StudyFileError`` where no plan of the space fits the limits, or nobody can say."""
    needs = "training_memory" in config.objectives or limits.max_training_memory is not None
    if needs and limits.memory is None and config.model.is_named:
        raise StudyFileError(
            f"training_memory must be foretold, but it cannot be for this {limits.layout.architecture} and "
            f"{config.task.type}; use the objective peak_memory_bytes, which is measured, and no limit of it"
        )
    if not limits.any:
        return
    plans = [space.plan({}), *(baseline.plan for baseline in space.baselines())]
    leanest = min(plans, key=limits.excess)
    if limits.excess(leanest) > 0:
        size = format_bytes(plan_cost(limits.layout, leanest).model_bytes)
        memory = limits.training_memory(leanest)
        takes = f" and takes {format_bytes(memory)} to train" if memory else ""
        raise StudyFileError(
            "search_space: some plan must be within max_model_bytes and max_training_memory, but the leanest "
            f"has {size}{takes}; raise the limit, offer fewer bits, or lower calibration.batch_size"
        )


def stored(name: str, url: str) -> StoredStudy | None:
    """The stored study of that name; None where there is none, or no storage."""
    storage = open_if_there(url)
    return find_study(storage, name) if storage else None


def find(config: StudyConfig, url: str) -> StoredStudy | None:
    """The stored study, under ``config`` from now on; raises ``StudyError`` if it was made from another."""
    study = stored(config.name, url)
    if study is None:
        return None
    config = with_labels(with_former_defaults(config, study.config), study.config)
    check_unchanged(study, config)
    return study.with_config(config)


def store(study: StoredStudy | Draft, url: str) -> StoredStudy:
    """The study as it is stored from now on, or as another process has just stored it."""
    if isinstance(study, StoredStudy):
        return study
    storage = open_storage(url, create=True)
    with creation_lock(url):
        # another process may have been faster while this one loaded the model
        if (found := find_study(storage, study.config.name)) is not None:
            return found
        if not is_proxy(url):  # which has no locks: another process may be creating it
            discard_half_made(storage, study.config.name)
        return create_study(storage, study.config, study.layout, study.memory)


def find_or_create(config: StudyConfig, url: str) -> StoredStudy:
    """The study with its queue, for workers that are started elsewhere; the stored one if it is there."""
    return find(config, url) or store(draft(config), url)
