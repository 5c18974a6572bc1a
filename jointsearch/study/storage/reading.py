"""Reads the trials of a study: only what has changed since the last time, and no parameters.

Optuna reads every parameter of a trial with its distribution: 72 000 rows for 1000 trials of 72
parameters, which is most of what a study holds and takes seconds. The plan says the same. A trial that
has finished stays as it is and is read once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import (
    StudyModel,
    StudyUserAttributeModel,
    TrialModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial
from sqlalchemy import select
from sqlalchemy.orm import Session

from jointsearch.errors import StudyError, first_line
from jointsearch.study.storage.internals import database_of, storage_of, study_id

CHUNK = 5_000
"""Trials that one query asks for: databases limit the number of bound variables."""


def studies_with(storage: BaseStorage, attribute: str) -> list[str]:
    """Names of the studies that have that user attribute, oldest first, without a look at their trials."""
    backend = getattr(storage, "_backend", storage)
    if not isinstance(backend, RDBStorage):  # a proxy
        return [study.study_name for study in storage.get_all_studies() if attribute in study.user_attrs]
    model = StudyUserAttributeModel
    query = (
        select(StudyModel.study_name)
        .join(model, model.study_id == StudyModel.study_id)
        .where(model.key == attribute)
        .order_by(StudyModel.study_id)
    )
    with _create_scoped_session(backend.scoped_session) as session:
        return list(session.scalars(query))


def stored(trial: optuna.Trial) -> FrozenTrial:
    """The trial as others see it now."""
    return storage_of(trial.study).get_trial(trial._trial_id)


class ChangedTrials:
    """All trials of a study, without parameters, as often as one likes."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._known: dict[int, FrozenTrial] = {}

    def read(self) -> tuple[FrozenTrial, ...]:
        """By number. A trial is the same object as before where nothing in it has changed.

        Raises ``StudyError`` where another version, or somebody else, has written what cannot be read.
        """
        try:
            return self._read()
        except KeyError:
            raise  # behind a proxy: the study has gone
        except (json.JSONDecodeError, LookupError, RecursionError) as error:
            name = self._study.study_name
            raise StudyError(f"the trials of '{name}' must be readable, but {first_line(error)}") from None

    def _read(self) -> tuple[FrozenTrial, ...]:
        database = database_of(self._study)
        if database is None:  # behind a proxy, whose client keeps finished trials itself
            found = self._study.get_trials(deepcopy=False)
            ids, read = [trial._trial_id for trial in found], found
        else:
            with _create_scoped_session(database.scoped_session) as session:
                ids = list(session.scalars(_trial_ids(self._study)))
                read = list(_trials(session, [key for key in ids if not self._is_finished(key)]))
        for trial in read:
            if not self._is_finished(trial._trial_id) and self._known.get(trial._trial_id) != trial:
                self._known[trial._trial_id] = trial
        # what is missing has just been deleted with its study: the next use of this says so
        return tuple(self._known[key] for key in ids if key in self._known)

    def _is_finished(self, trial_id: int) -> bool:
        return trial_id in self._known and self._known[trial_id].state.is_finished()


def _trial_ids(study: optuna.Study) -> Any:
    return (
        select(TrialModel.trial_id)
        .where(TrialModel.study_id == study_id(study))
        .order_by(TrialModel.trial_id)
    )


def _trials(session: Session, ids: Sequence[int]) -> Iterator[FrozenTrial]:
    """The trials of those ids."""
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        # states come first: what belongs to a trial that has finished is there, and stays
        rows: Sequence[Any] = session.scalars(
            select(TrialModel).where(TrialModel.trial_id.in_(chunk)).order_by(TrialModel.trial_id)
        ).all()
        attributes, values = _attributes(session, chunk), _values(session, chunk)
        for row in rows:
            yield FrozenTrial(
                number=row.number,
                trial_id=row.trial_id,
                state=row.state,
                value=None,
                values=[value for _, value in sorted(values[row.trial_id].items())] or None,
                datetime_start=row.datetime_start,
                datetime_complete=row.datetime_complete,
                params={},
                distributions={},
                user_attrs=attributes[row.trial_id],
                system_attrs={},
                intermediate_values={},
            )


def _attributes(session: Session, ids: Sequence[int]) -> defaultdict[int, dict[str, Any]]:
    """User attributes by trial."""
    model = TrialUserAttributeModel
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    query = select(model.trial_id, model.key, model.value_json).where(model.trial_id.in_(ids))
    for trial_id, key, text in session.execute(query):
        found[trial_id][key] = json.loads(text)
    return found


def _values(session: Session, ids: Sequence[int]) -> defaultdict[int, dict[int, float]]:
    """Values by trial and objective."""
    model = TrialValueModel
    found: defaultdict[int, dict[int, float]] = defaultdict(dict)
    rows: Sequence[Any] = session.scalars(select(model).where(model.trial_id.in_(ids))).all()
    for row in rows:
        found[row.trial_id][row.objective] = model.stored_repr_to_value(row.value, row.value_type)
    return found
