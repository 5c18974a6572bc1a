"""The queue of a study: plans that wait for a worker, as trials of Optuna's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.errors import StudyError
from jointsearch.plan.origin import REQUEST, Origin
from jointsearch.plan.plan import Plan
from jointsearch.search.attributes import PLAN, SEED, STEPS
from jointsearch.search.optuna_compat import generation_of
from jointsearch.search.samplers import distributions
from jointsearch.space import SearchSpace
from jointsearch.study.attributes import DIGEST, ORIGIN, PLAN_ATTRIBUTES, REQUESTED, RETRY_OF
from jointsearch.study.stored import StoredStudy


def enqueue(
    study: optuna.Study,
    space: SearchSpace,
    plan: Plan,
    params: Mapping[str, int] | None,
    attributes: Mapping[str, Any],
) -> None:
    """Put ``plan`` into the queue.

    ``params``: those that the space has for it, perhaps without a learning rate, which its worker adds; None
    for a plan from outside of the space.
    """
    kinds = distributions(space)
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=dict(params or {}),
            distributions={name: kinds[name] for name in params or {}},
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


def request(
    study: StoredStudy,
    plan: Plan,
    origin: Origin = REQUEST,
    *,
    seed: int | None = None,
    steps: int | None = None,
) -> None:
    """Have a worker measure ``plan``, on top of the search's trials and before them.

    The plan need not be in the search space. Without ``seed`` it is measured with the study's own. With
    ``steps`` it is a final, which has no parameters: Optuna's samplers must not take it for a trial.
    """
    attributes: dict[str, Any] = {REQUESTED: True, ORIGIN: origin.model_dump(mode="json")}
    attributes |= {name: value for name, value in ((SEED, seed), (STEPS, steps)) if value is not None}
    params = study.space.params_of(plan) if steps is None else None
    enqueue(study.optuna_study, study.space, plan, params, attributes)


def requeue_failed(study: StoredStudy, number: int | None = None) -> list[int]:
    """Put failed trials back into the queue, all or one; their numbers. Raises ``StudyError``."""
    failed = study.records().failed
    chosen = [trial for trial in failed if number is None or trial.number == number]
    if number is not None and not chosen:
        raise StudyError(
            f"the trial must be one that has failed ({[t.number for t in failed]}), but got {number}"
        )
    whole = study.optuna_study.get_trials(deepcopy=False) if chosen else []
    for trial in chosen:
        requeue(study.optuna_study, whole[trial.number])
    return [trial.number for trial in chosen]
