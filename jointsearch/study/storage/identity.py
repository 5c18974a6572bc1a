"""The identity of a study, which nothing reuses.

SQLite gives the numbers of a deleted study and of its trials to the next ones. A worker of the deleted study
would store its result in the new one, and a reader would take the new one for the old. So every study has a
random identity among its attributes, and an identified study looks for it whenever it reads or writes: in a
database in the same transaction, behind a proxy, which has none, just before.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import GrpcStorageProxy, RDBStorage
from optuna.storages._rdb.models import StudyModel, StudyUserAttributeModel
from optuna.storages._rdb.storage import _create_scoped_session
from sqlalchemy import Connection, and_, select

from jointsearch.errors import StorageError, StudyGone
from jointsearch.study.storage.database import Database
from jointsearch.study.storage.internals import database_of, storage_of, study_id
from jointsearch.study.storage.outages import is_outage
from jointsearch.study.storage.proxy import StudyProxy

IDENTITY = "identity"


def identified(study: optuna.Study) -> optuna.Study:
    """``study`` through a storage that raises ``StudyGone`` once the study is deleted, or made again.

    A study without an identity, a new one or one of version 0.1.0, gets it. Raises ``StorageError`` where
    the storage is another one of Optuna's.
    """
    name, storage, database = study.study_name, storage_of(study), database_of(study)
    if database is None and not isinstance(storage, GrpcStorageProxy):
        raise StorageError(
            "a study must be in a database or behind a storage proxy, which processes can share, but got "
            f"{type(storage).__name__}; give a URL such as sqlite:///jointsearch.db"
        )
    identity = study.user_attrs.get(IDENTITY)
    if isinstance(database, Database):
        identity = identity or _given(database, study_id(study))
        own: Any = database.of_study(check_of(study_id(study), name, identity))
    elif database is None:
        if identity is None:
            study.set_user_attr(IDENTITY, uuid.uuid4().hex)
            identity = study.user_attrs[IDENTITY]
        own = StudyProxy(
            storage, study, identity, lambda found: _compare(name, found.get(IDENTITY), identity)
        )
    else:
        own = storage
    return optuna.load_study(study_name=name, storage=own, sampler=study.sampler)


def _given(database: RDBStorage, number: int) -> str | None:
    """The identity that the study has from now on; None where nothing can be written."""
    try:
        with _create_scoped_session(database.scoped_session) as session:
            study = StudyModel.find_or_raise_by_id(number, session, for_update=True)
            # another process may have been faster
            found: Any = StudyUserAttributeModel.find_by_study_and_key(study, IDENTITY, session)
            if found is not None:
                return str(json.loads(found.value_json))
            identity = uuid.uuid4().hex
            session.add(
                StudyUserAttributeModel(study_id=number, key=IDENTITY, value_json=json.dumps(identity))
            )
        return identity
    except StorageInternalError as error:
        if is_outage(error):
            raise
        return None


def check_of(number: int, name: str, identity: str | None) -> Callable[[Connection], None]:
    """Looks, inside a transaction, whether the study is still the same."""
    attribute = StudyUserAttributeModel
    query = (
        select(StudyModel.study_name, attribute.value_json)
        .outerjoin(attribute, and_(attribute.study_id == StudyModel.study_id, attribute.key == IDENTITY))
        .where(StudyModel.study_id == number)
    )

    def check(connection: Connection) -> None:
        row = connection.execute(query).first()
        if row is None or row[0] != name:
            raise gone(name)
        _compare(name, None if row[1] is None else json.loads(row[1]), identity)

    return check


def _compare(name: str, found: str | None, identity: str | None) -> None:
    """``identity``: None of a study of 0.1.0 in a storage that can only be read."""
    if identity is not None and found != identity:
        raise gone(name)


def gone(name: str) -> StudyGone:
    return StudyGone(
        f"the study '{name}' was deleted while this process used it; nothing more is stored in it, nor in "
        "another study of that name"
    )
