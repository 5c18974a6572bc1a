"""What an Optuna study keeps to itself: its storage, and the number of its row."""

from __future__ import annotations

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Engine

from jointsearch.errors import StudyGone


def storage_of(study: optuna.Study) -> BaseStorage:
    """As Optuna uses it: a database with a cache before it, or a proxy."""
    return study._storage


def database_of(study: optuna.Study) -> RDBStorage | None:
    """The database behind the cache; None behind a proxy."""
    storage = storage_of(study)
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) else None


def engine_of(study: optuna.Study) -> Engine | None:
    """The connections to a study's database; None behind a proxy."""
    database = database_of(study)
    return None if database is None else database.engine


def study_id(study: optuna.Study) -> int:
    return study._study_id


def is_stored(study: optuna.Study) -> bool:
    """Whether ``study`` is still there: not deleted, nor made again under its old name."""
    try:
        return storage_of(study).get_study_id_from_name(study.study_name) == study_id(study)
    except (KeyError, StudyGone):
        return False
