"""Reads the trials of a study: only what has changed since the last time, and no parameters.

Optuna reads every parameter of a trial with its distribution: 72 000 rows for 1000 trials of 72
parameters, which is most of what a study holds and takes seconds. The plan says the same. A trial that
has finished stays as it is and is read once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel, TrialValueModel
from optuna.trial import FrozenTrial
from sqlalchemy import select
from sqlalchemy.orm import Session

CHUNK = 5_000
"""Trials that one query asks for: databases limit the number of bound variables."""


def frozen_trials(session: Session, ids: Sequence[int]) -> Iterator[FrozenTrial]:
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
