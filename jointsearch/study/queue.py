"""The queue of a study: plans that wait for a worker, as trials of Optuna's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.plan.plan import Plan
from jointsearch.search.optuna_compat import generation_of
from jointsearch.search.samplers import distributions
from jointsearch.space import SearchSpace
from jointsearch.study.records import DIGEST, PLAN, PLAN_ATTRIBUTES, RETRY_OF


def enqueue(
    study: optuna.Study,
    space: SearchSpace,
    plan: Plan,
    params: Mapping[str, int] | None,
    attributes: Mapping[str, Any],
) -> None:
    """Put ``plan`` into the queue.

    ``params``: those that the space has for it; None for a plan from outside of the space.
    """
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=dict(params or {}),
            distributions=dict(distributions(space)) if params is not None else {},
            user_attrs={**plan_attributes(plan), **attributes},
            system_attrs=generation_of() if params is not None else {},
        )
    )


def plan_attributes(plan: Plan) -> dict[str, Any]:
    """How a trial keeps its plan."""
    return {PLAN: plan.model_dump(mode="json"), DIGEST: plan.digest}


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the plan of a stale, interrupted or failed trial back into the queue, as a new trial, once."""
    if is_retried(study.get_trials(deepcopy=False), trial):
        return
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=kept_for_retry(trial),
            system_attrs=generation_of(trial),
        )
    )


def kept_for_retry(trial: FrozenTrial) -> dict[str, Any]:
    """What another trial of the same plan has from the start."""
    kept = {key: value for key, value in trial.user_attrs.items() if key in PLAN_ATTRIBUTES}
    return {**kept, RETRY_OF: trial.number}


def is_retried(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    return any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials)
