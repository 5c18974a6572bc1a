"""Studies of others in the same database: a foreign one, an older one, a newer one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import create_engine, text

from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.identity import IDENTITY
from jointsearch.study.stored import StoredStudy

OTHERS = ("foreign", "older", "newer")

Contents = dict[str, tuple[dict[str, Any], list[Any]]]


def age(study: StoredStudy) -> None:
    """What version 0.1.0 stored: no identity, labels instead of origins."""
    own = study.optuna_study
    engine = create_engine(own._storage._backend.url)  # type: ignore[attr-defined]
    with engine.begin() as connection:
        for key in (IDENTITY, "origin"):
            table = "study_user_attributes" if key == IDENTITY else "trial_user_attributes"
            owner = "study_id" if key == IDENTITY else "trial_id"
            query = (
                f"DELETE FROM {table} WHERE key = :key AND {owner} IN "
                f"(SELECT {owner} FROM {'studies' if key == IDENTITY else 'trials'} WHERE study_id = :study)"
            )
            connection.execute(text(query), {"key": key, "study": own._study_id})
    engine.dispose()


def renew(study: StoredStudy) -> None:
    """What a version of tomorrow might store."""
    own = study.optuna_study
    own.set_user_attr("wanted", "drain")
    own.set_user_attr("full_run:1", {"of": "tomorrow"})
    own.set_user_attr("config", {**own.user_attrs["config"], "of_tomorrow": 1})


def disregard(storage: RDBStorage) -> None:
    """A study of somebody else's, with a trial that seems to have been running for ever."""
    study = optuna.create_study(study_name="foreign", storage=storage)
    with experimental_optuna():
        study.ask()
    study.add_trial(create_trial(state=TrialState.WAITING))
    study.set_user_attr("wanted", "cancel")


def contents(storage: RDBStorage) -> Contents:
    """All that is stored of them, but the identity that an older one is given when it is opened."""
    found = {}
    for name in OTHERS:
        study = optuna.load_study(study_name=name, storage=storage)
        attributes = {key: value for key, value in study.user_attrs.items() if key != IDENTITY}
        found[name] = (attributes, study.get_trials())
    return found


@contextmanager
def beside(storage: RDBStorage, make: Any, url: str) -> Iterator[None]:
    """Inside the block there are others; what they hold must be the same at its end."""
    age(make(url, 10, name="older"))
    renew(make(url, 10, name="newer"))
    disregard(storage)
    before = contents(storage)
    yield
    assert contents(storage) == before
