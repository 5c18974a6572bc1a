"""Writes what a trial knows in one transaction, and its state.

Optuna's own methods take a transaction, and read the trial, for every parameter and every attribute:
with 72 parameters on PostgreSQL that was more than half of what storing a trial costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select

from jointsearch.study.storage.internals import database_of, storage_of, study_id
from jointsearch.study.storage.proxy import StudyProxy

Internal = dict[str, tuple[float, BaseDistribution]]
"""Parameters as Optuna stores them."""


def take(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial | None:
    """A waiting trial, running from now on; None where another worker was faster."""
    if storage_of(study).set_trial_state_values(trial._trial_id, TrialState.RUNNING):
        return optuna.Trial(study, trial._trial_id)
    return None


def reserve(study: optuna.Study) -> int:
    """The id of a trial that is running from now on: the first that waits, or a new one.

    ``begin`` is the other half of what ``Study.ask`` does: samplers take long, and nobody must wait for them.
    """
    waiting: int | None = study._pop_waiting_trial_id()
    return storage_of(study).create_new_trial(study_id(study)) if waiting is None else waiting


def begin(study: optuna.Study, trial_id: int) -> optuna.Trial:
    """The reserved trial, with what the sampler proposes for it."""
    study._thread_local.cached_all_trials = None
    return optuna.Trial(study, trial_id)


def fail_stale(study: optuna.Study, number: int) -> None:
    """Fail a running trial whose worker is gone, unless another worker was faster, or it has ended."""
    storage = storage_of(study)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id(study), number)
    with suppress(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.FAIL)


def delete(study: optuna.Study) -> None:
    """Delete the study with all that belongs to it, also under workers."""
    database = database_of(study)
    if database is None:
        storage_of(study).delete_study(study_id(study))
        return
    with _create_scoped_session(database.scoped_session) as session:
        # Optuna's own passes over what the database refuses: here nobody adds to a row that is about to go
        row = models.StudyModel.find_or_raise_by_id(study_id(study), session, for_update=True)
        trial = models.TrialModel
        session.execute(
            select(trial.trial_id).where(trial.study_id == study_id(study)).with_for_update()
        ).all()
        session.delete(row)


def suggest(trial: optuna.Trial, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """What the study's sampler proposes for the parameters; those that the trial has already stay."""
    proposed = trial.params | trial.relative_params
    sampler, frozen = trial.study.sampler, trial._cached_frozen_trial
    return {
        name: proposed[name]
        if name in proposed
        else sampler.sample_independent(trial.study, frozen, name, distribution)
        for name, distribution in distributions.items()
    }


def write(
    trial: optuna.Trial,
    attributes: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    distributions: Mapping[str, BaseDistribution] | None = None,
) -> None:
    """Store user attributes, and parameters that the trial does not have yet; may be done again."""
    new: Internal = {
        name: (distribution.to_internal_repr((params or {})[name]), distribution)
        for name, distribution in (distributions or {}).items()
        if name not in trial.params
    }
    storage, database = storage_of(trial.study), database_of(trial.study)
    if database is not None:
        write_at_once(database, trial._trial_id, attributes, new)
    elif not (
        isinstance(storage, StudyProxy)
        and storage.write(
            trial._trial_id,
            attributes,
            {name: (value, distribution_to_json(kind)) for name, (value, kind) in new.items()},
        )
    ):
        for name, (value, distribution) in new.items():
            storage.set_trial_param(trial._trial_id, name, value, distribution)
        for key, attribute in attributes.items():
            storage.set_trial_user_attr(trial._trial_id, key, attribute)
    trial._cached_frozen_trial = storage.get_trial(trial._trial_id)


def write_at_once(
    database: RDBStorage, trial_id: int, attributes: Mapping[str, Any], params: Internal
) -> None:
    with _create_scoped_session(database.scoped_session) as session:
        row: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
        database.check_trial_is_updatable(trial_id, row.state)
        # the answer to a first call may have been lost after its commit
        param = models.TrialParamModel
        there = set(session.scalars(select(param.param_name).where(param.trial_id == trial_id)))
        session.add_all(
            models.TrialParamModel(
                trial_id=trial_id,
                param_name=name,
                param_value=value,
                distribution_json=distribution_to_json(distribution),
            )
            for name, (value, distribution) in params.items()
            if name not in there
        )
        for key, attribute in attributes.items():
            database._set_trial_attr_without_commit(
                session, models.TrialUserAttributeModel, trial_id, key, attribute
            )
