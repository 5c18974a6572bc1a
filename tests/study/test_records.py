from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from jointsearch.study.records import StudyRecords

OBJECTIVES = ("loss", "model_bytes")
TRAINED = {"modules": {"m": {"format": "nf4", "rank": 4}}}
UNTRAINED = {"modules": {"m": {"format": "nf4", "rank": 0}}}


def trial(
    number: int,
    values: tuple[float, float] | None = None,
    *,
    state: TrialState = TrialState.COMPLETE,
    label: str = "",
    digest: str | None = None,
    **attributes: Any,
) -> FrozenTrial:
    """A finished trial; the measurement says what the values say."""
    if values is not None:
        attributes["measurement"] = {"metrics": {"loss": values[0]}, "model_bytes": int(abs(values[1]))}
    begin = datetime(2026, 1, 1)
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=list(values) if values else None,
        datetime_start=begin,
        datetime_complete=begin + timedelta(seconds=number) if values else None,
        params={},
        distributions={},
        user_attrs={"digest": digest or f"plan {number}", "label": label, "plan": TRAINED, **attributes},
        system_attrs={},
        intermediate_values={},
    )


def records(*trials: FrozenTrial, objectives: tuple[str, ...] = OBJECTIVES) -> StudyRecords:
    return StudyRecords.of(objectives, trials)


def numbers(found: tuple[Any, ...]) -> list[int]:
    return [entry.number for entry in found]


def test_the_front_is_sorted_by_bytes() -> None:
    found = records(
        trial(0, (1.0, 900)),
        trial(1, (2.0, 500)),
        trial(2, (2.0, 600)),  # dominated by 1
        trial(3, (4.0, 100)),
        trial(4, (1.0, 901)),  # dominated by 0
        trial(5, None, state=TrialState.FAIL, failure="diverged"),
    )
    assert numbers(found.front) == [3, 1, 0]
    assert [(p.trial, p.quality, p.model_bytes) for p in found.front_points] == [
        (3, 4.0, 100),
        (1, 2.0, 500),
        (0, 1.0, 900),
    ]
    assert found.best is not None
    assert found.best.number == 0


def test_of_equal_plans_the_first_is_on_the_front() -> None:
    found = records(
        trial(0, (1.0, 900), digest="same"),
        trial(1, (1.0, 900), digest="same"),
        trial(2, (1.0, 900), digest="x"),
    )
    assert numbers(found.front) == [0, 2]


def test_an_objective_that_grows_turns_the_front() -> None:
    found = records(
        trial(0, (0.9, 900)),
        trial(1, (0.5, 500)),
        trial(2, (0.4, 600)),  # worse and larger than 1
        objectives=("accuracy", "model_bytes"),
    )
    assert numbers(found.front) == [1, 0]
    assert found.best is not None
    assert found.best.number == 0
    assert found.best.values == {"accuracy": 0.9, "model_bytes": 900}


def test_trials_by_state() -> None:
    found = records(
        trial(0, (1.0, 900)),
        trial(1, state=TrialState.FAIL, failure="out of memory"),
        trial(2, state=TrialState.FAIL, failure="stopped"),
        trial(3, state=TrialState.RUNNING),
        trial(4, state=TrialState.WAITING, retry_of=2),
    )
    assert (numbers(found.complete), numbers(found.running), numbers(found.waiting)) == ([0], [3], [4])
    assert numbers(found.failed) == [1]  # 2 is given back as 4
    assert found.failed[0].failure == "out of memory"
    assert found.num_finished == 2
    assert found.complete[0].seconds == 0
    assert found.running[0].seconds is None
    assert found.running[0].values == {}


def test_a_trial_that_is_given_back_twice_fails_once() -> None:
    found = records(
        trial(0, state=TrialState.FAIL),
        trial(1, state=TrialState.FAIL, retry_of=0),
        trial(2, state=TrialState.FAIL, retry_of=1),
    )
    assert numbers(found.failed) == [2]


def test_nothing_is_there_before_the_first_trial_ends() -> None:
    found = records(trial(0, state=TrialState.RUNNING))
    assert found.front == ()
    assert found.front_points == []
    assert found.best is None
    assert found.hypervolume is None


def test_hypervolume_is_in_that_of_the_trained_uniform_plans() -> None:
    # trained uniform plans (2, 1000) and (5, 300): the corner is a tenth of their ranges beyond, (5.3, 1070)
    found = records(
        trial(0, (5.0, 300), label="uniform 4-bit"),
        trial(1, (2.0, 1000), label="uniform 16-bit"),
        trial(2, (9.0, 100), label="uniform 4-bit rank 0", plan=UNTRAINED),  # moves no corner
        trial(3, (1.0, 600)),
        trial(4, (9.0, 9000)),  # beyond the corner
    )
    uniform = 3.3 * 70 + 0.3 * 700
    whole = 4.3 * (1070 - 600) + 0.3 * (600 - 300)
    assert [number for number, _ in found.hypervolume_curve] == [0, 1, 2, 3, 4]
    ratios = [0.3 * 770 / uniform, 1.0, 1.0, whole / uniform, whole / uniform]
    assert [ratio for _, ratio in found.hypervolume_curve] == pytest.approx(ratios, rel=1e-12)
    assert found.hypervolume == pytest.approx(whole / uniform, rel=1e-12)
    assert numbers(found.baselines) == [0, 1, 2]


def test_hypervolume_of_quality_that_grows() -> None:
    # accuracy from 0.1 to 0.8, bytes from 100 to 1000: the corner is (0.03, 1090)
    found = records(
        trial(0, (0.1, 100), label="uniform a"),
        trial(1, (0.8, 1000), label="uniform b"),
        trial(2, (0.9, 500)),
        objectives=("accuracy", "model_bytes"),
    )
    uniform = 0.07 * 990 + 0.7 * 90
    assert found.hypervolume == pytest.approx((0.07 * 990 + 0.8 * 590) / uniform, rel=1e-12)


def test_hypervolume_needs_two_baselines_that_differ() -> None:
    assert records(trial(0, (5.0, 300), label="uniform a"), trial(1, (1.0, 100))).hypervolume is None
    flat = records(trial(0, (5.0, 300), label="uniform a"), trial(1, (5.0, 900), label="uniform b"))
    assert flat.hypervolume is None
    two = records(trial(0, (5.0, 300), label="uniform a"), trial(1, (2.0, 900), label="uniform b"))
    assert two.hypervolume == pytest.approx(1.0)


def test_a_plan_with_several_seeds_has_means_and_errors() -> None:
    found = records(
        trial(0, (2.0, 500), digest="a", seed=0),
        trial(1, (1.0, 900), digest="b", seed=0),
        trial(2, (2.5, 500), digest="a", seed=1, label="named later"),
        trial(3, (2.0, 500), digest="a", seed=0, copy_of=0),  # no new measurement
        trial(4, (2.6, 500), digest="a", seed=2),
        trial(5, None, state=TrialState.FAIL, digest="a", seed=3),
    )
    several, single = found.measured
    assert numbers(several.trials) == [0, 2, 4]
    assert (several.number, several.digest, several.origin.name) == (0, "a", "")
    assert several.values == {"loss": pytest.approx((2.0 + 2.5 + 2.6) / 3), "model_bytes": 500}
    mean = 7.1 / 3
    deviations = sum((loss - mean) ** 2 for loss in (2.0, 2.5, 2.6))
    assert several.standard_error("loss") == pytest.approx((deviations / 2 / 3) ** 0.5, rel=1e-9)
    assert several.standard_error("model_bytes") == 0
    assert single.values == {"loss": 1.0, "model_bytes": 900}
    assert single.standard_error("loss") is None


def test_the_front_is_one_of_means() -> None:
    found = records(
        trial(0, (1.0, 500), digest="lucky once", seed=0),
        trial(1, (2.0, 500), digest="steady", seed=0),
        trial(2, (5.0, 500), digest="lucky once", seed=1),
    )
    assert numbers(found.front) == [1]
    assert found.best is not None
    assert found.best.number == 1


def test_what_a_person_asked_for_comes_on_top_of_the_search() -> None:
    found = records(
        trial(0, (1.0, 900)),
        trial(1, (1.0, 800), requested=True),
        trial(2, (1.0, 700), imported_from="other:3"),
        trial(3, state=TrialState.FAIL, failure="diverged"),
        trial(4, state=TrialState.RUNNING),
        trial(5, state=TrialState.WAITING),
        trial(6, state=TrialState.WAITING, requested=True),
        trial(7, state=TrialState.RUNNING, requested=True),
    )
    assert numbers(found.requested) == [6]
    assert found.num_searched == 3
    assert found.num_left(10) == (10 - 2) + 2
    assert found.num_left(2) == 2


def test_a_trial_that_was_lost_is_still_to_be_finished() -> None:
    """Between its failure and its return to the queue a worker must not think that the study is full."""
    found = records(
        trial(0, (1.0, 900)),
        trial(1, state=TrialState.FAIL),
        trial(2, state=TrialState.FAIL, failure="diverged"),
        trial(3, state=TrialState.FAIL, requested=True),
    )
    assert numbers(found.stale) == [1, 3]
    assert found.num_left(3) == 1 + 1
    assert found.num_searched == 3


def test_lucky_seeds_put_no_plan_on_the_front() -> None:
    """Plans 0 and 1 are measured again with a seed that makes every plan better by 0.4."""
    found = records(
        trial(0, (2.0, 500), digest="a", seed=0),
        trial(1, (1.0, 900), digest="b", seed=0),
        trial(2, (1.9, 500), digest="c", seed=0),
        trial(3, (1.7, 500), digest="a", seed=1),
        trial(4, (0.5, 900), digest="b", seed=1),
    )
    a, b, c = found.measured
    assert numbers(found.front) == [2, 1]  # the plain mean of a is 1.85
    # offset -0.4: a has 2.0 and 2.1, b 1.0 and 0.9
    assert [p.values["loss"] for p in (a, b, c)] == pytest.approx([2.05, 0.95, 1.9])
    assert a.standard_error("loss") == pytest.approx(0.05)
    assert a.values["model_bytes"] == 500


def test_bytes_of_an_adaptive_plan_move_no_other_plan() -> None:
    """Plan c ends with other ranks, so with other bytes, under seed 1; luck is of the quality alone."""
    found = records(
        trial(0, (2.0, 500), digest="a", seed=0),
        trial(1, (1.0, 900), digest="b", seed=0),
        trial(2, (1.7, 500), digest="a", seed=1),
        trial(3, (0.5, 900), digest="b", seed=1),
        trial(4, (1.5, 700), digest="c", seed=0),
        trial(5, (1.2, 760), digest="c", seed=1),
    )
    assert [point.values["model_bytes"] for point in found.measured] == [500, 900, 730]
