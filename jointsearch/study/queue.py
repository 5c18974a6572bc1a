"""The queue of a study: trials that wait, heartbeats of those that run, and the return of lost ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.plan.plan import Plan
from jointsearch.search.optuna_compat import generation_of
from jointsearch.search.samplers import distributions
from jointsearch.space import SearchSpace
from jointsearch.study.records import DIGEST, PLAN, PLAN_ATTRIBUTES, RETRY_OF, TrialRecord
from jointsearch.study.storage import writing


def enqueue(study: optuna.Study, space: SearchSpace, plan: Plan, attributes: Mapping[str, Any]) -> None:
    """Put ``plan`` into the queue; without Optuna parameters where the space does not have it."""
    params = space.params_of(plan)
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=params or {},
            distributions=dict(distributions(space)) if params is not None else {},
            user_attrs={PLAN: plan.model_dump(mode="json"), DIGEST: plan.digest, **attributes},
            system_attrs=generation_of() if params is not None else {},
        )
    )


def take(study: optuna.Study, waiting: Iterable[TrialRecord]) -> optuna.Trial | None:
    """The first of ``waiting`` that no other worker takes, running from now on."""
    for trial in waiting:
        if (taken := writing.take(study, trial.frozen)) is not None:
            return taken
    return None


def give_back(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the plan of a lost or interrupted trial back into the queue, as a new trial, once."""
    if is_retried(study.get_trials(deepcopy=False), trial):
        return
    kept = {key: value for key, value in trial.user_attrs.items() if key in PLAN_ATTRIBUTES}
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**kept, RETRY_OF: trial.number},
            system_attrs=generation_of(trial),
        )
    )


def is_retried(trials: list[FrozenTrial], trial: FrozenTrial) -> bool:
    return any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials)
