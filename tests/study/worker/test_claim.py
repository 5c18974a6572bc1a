"""What a trial is given when a worker claims it: a seed, and the trial that has measured the same."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest

from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.search.attributes import COPY_OF, SEED
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.queue import Claim, TrialQueue
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]


@pytest.fixture
def study(create: Create) -> StoredStudy:
    return create(calibration={"seed": 5})


@pytest.fixture
def queue(study: StoredStudy) -> TrialQueue:
    return TrialQueue(study, num_trials=10)


def claimed(queue: TrialQueue) -> tuple[optuna.Trial, Plan, Claim]:
    """The next trial of the queue, its plan, and its claim."""
    records = queue.look()
    assert records is not None
    trial = queue.take(records)
    assert trial is not None
    plan = queue.plan_of(trial)
    return trial, plan, queue.claim(trial, plan)


def kept(study: StoredStudy, number: int) -> tuple[int, int | None]:
    attributes = study.optuna_study.trials[number].user_attrs
    return attributes[SEED], attributes.get(COPY_OF)


def test_a_twin_has_the_same_plan_and_the_same_seed(
    study: StoredStudy, queue: TrialQueue, layout: ModelLayout
) -> None:
    first, plan, claim = claimed(queue)
    assert (claim.seed, claim.twin, kept(study, first.number)) == (5, None, (5, None))
    queue.complete(first, FakeRunner(layout).run(plan, Trial(seed=claim.seed)))

    request(study, plan, seed=6)
    second, _, other = claimed(queue)
    assert (other.seed, other.twin, kept(study, second.number)) == (6, None, (6, None))

    request(study, plan, seed=5)
    third, _, same = claimed(queue)
    assert same.twin is not None
    assert (same.seed, same.twin.number) == (5, first.number)
    assert kept(study, third.number) == (5, first.number)


def test_a_trial_that_runs_is_a_twin_and_one_that_waits_for_it_is_none(
    study: StoredStudy, queue: TrialQueue
) -> None:
    first, plan, _ = claimed(queue)
    request(study, plan)
    second, _, waiting = claimed(queue)
    assert waiting.twin is not None and waiting.twin.number == first.number
    assert kept(study, second.number) == (5, first.number)
    queue.fail(first, "it has no result")
    request(study, plan)
    _, _, alone = claimed(queue)
    assert alone.twin is None


def test_plans_that_may_be_repeated_get_the_next_seeds(create: Create) -> None:
    study = create(calibration={"seed": 5}, search={"repeats": 2})
    queue = TrialQueue(study, num_trials=10)
    first, plan, claim = claimed(queue)
    found = [claim]
    for _ in range(2):
        request(study, plan)
        found.append(claimed(queue)[2])
    assert [claim.seed for claim in found] == [5, 6, 5]
    assert [claim.twin and claim.twin.number for claim in found] == [None, None, first.number]
