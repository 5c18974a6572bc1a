"""Reads the trials of a study: only what has changed since the last time, and no parameters.

Optuna reads every parameter of a trial with its distribution: 72 000 rows for 1000 trials of 72
parameters, which is most of what a study holds and takes seconds. The plan says the same. A trial that
has finished stays as it is and is read once.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import optuna
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel, TrialValueModel
from optuna.trial import FrozenTrial
from sqlalchemy import select
from sqlalchemy.orm import Session

from jointsearch.study.records import StudyRecords, TrialRecord
from jointsearch.study.storage import engine_of

CHUNK = 5_000
"""Trials that one query asks for: databases limit the number of bound variables."""


class RecordReader:
    """The records of one study at any time; thread-safe. Their trials have no parameters."""

    def __init__(self, study: optuna.Study, objectives: tuple[str, ...]) -> None:
        self._study = study
        self._objectives = objectives
        self._finished: dict[int, TrialRecord] = {}
        self._latest = StudyRecords(objectives, ())
        self._lock = threading.Lock()

    def read(self) -> StudyRecords:
        """All trials as they are now; the same object as before where nothing has changed."""
        with self._lock:
            trials = self._trials()
            if not _same(self._latest.trials, trials):
                self._latest = StudyRecords(self._objectives, trials)
            return self._latest

    def _trials(self) -> tuple[TrialRecord, ...]:
        engine = engine_of(self._study)
        if engine is None:  # behind a proxy, whose client keeps finished trials itself
            found = self._study.get_trials(deepcopy=False)
            new = [trial for trial in found if trial._trial_id not in self._finished]
            ids = [trial._trial_id for trial in found]
        else:
            with Session(engine) as session:
                ids = list(
                    session.scalars(
                        select(TrialModel.trial_id)
                        .where(TrialModel.study_id == self._study._study_id)
                        .order_by(TrialModel.trial_id)
                    )
                )
                unknown = [trial_id for trial_id in ids if trial_id not in self._finished]
                new = list(_frozen_trials(session, unknown))
        records = {trial._trial_id: TrialRecord(trial, self._objectives) for trial in new}
        self._finished |= {key: record for key, record in records.items() if record.state.is_finished()}
        return tuple(self._finished.get(trial_id) or records[trial_id] for trial_id in ids)


def _same(known: Sequence[TrialRecord], trials: Sequence[TrialRecord]) -> bool:
    return len(known) == len(trials) and all(
        old is new or old.frozen == new.frozen for old, new in zip(known, trials, strict=True)
    )


def _frozen_trials(session: Session, ids: Sequence[int]) -> Iterator[FrozenTrial]:
    """The trials without parameters, by id."""
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        # states come first: what belongs to a trial that has finished is there, and stays
        trials: Sequence[Any] = session.scalars(
            select(TrialModel).where(TrialModel.trial_id.in_(chunk)).order_by(TrialModel.trial_id)
        ).all()
        attributes: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        rows = select(
            TrialUserAttributeModel.trial_id, TrialUserAttributeModel.key, TrialUserAttributeModel.value_json
        ).where(TrialUserAttributeModel.trial_id.in_(chunk))
        for trial_id, key, text in session.execute(rows):
            attributes[trial_id][key] = json.loads(text)
        values: defaultdict[int, dict[int, float]] = defaultdict(dict)
        stored: Iterable[Any] = session.scalars(
            select(TrialValueModel).where(TrialValueModel.trial_id.in_(chunk))
        )
        for row in stored:
            values[row.trial_id][row.objective] = TrialValueModel.stored_repr_to_value(
                row.value, row.value_type
            )
        for trial in trials:
            yield FrozenTrial(
                number=trial.number,
                trial_id=trial.trial_id,
                state=trial.state,
                value=None,
                values=[value for _, value in sorted(values[trial.trial_id].items())] or None,
                datetime_start=trial.datetime_start,
                datetime_complete=trial.datetime_complete,
                params={},
                distributions={},
                user_attrs=attributes[trial.trial_id],
                system_attrs={},
                intermediate_values={},
            )
